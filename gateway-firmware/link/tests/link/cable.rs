//! An Ethernet between two, on which frames are lost, doubled, delayed past each other, and damaged.

use std::cell::RefCell;
use std::rc::Rc;

use gateway_link::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use gateway_link::time::Instant;

const DELAY_US: u64 = 100;

/// What happens to frames, in percent, by a seed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) seed: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Up to so much is added to every frame's way.
    pub(crate) jitter_us: u64,
    /// Of those towards the board. Its checksums are not looked at then, or they would catch nearly all of it.
    pub(crate) damaged: u64,
    /// Nothing comes through.
    pub(crate) cut: bool,
}

/// A small generator, the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Less than `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides.max(1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    /// Changes bytes as bad memory, bad cables and bad people do.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.roll(4) {
            let at = self.roll(bytes.len() as u64) as usize;
            match self.roll(6) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at..),
                2 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][self.roll(6) as usize],
                4 if at < bytes.len() => bytes[at] = self.roll(256) as u8,
                _ if at + 1 < bytes.len() => bytes.swap(at, at + 1),
                _ => {}
            }
        }
        bytes.truncate(1514);
    }
}

#[derive(Debug)]
pub(crate) struct Cable {
    pub(crate) weather: Weather,
    pub(crate) now_us: u64,
    dice: Dice,
    /// Towards the board, and away from it.
    frames: [Vec<(u64, Vec<u8>)>; 2],
    /// All that was sent towards the board.
    pub(crate) kept: Option<Vec<Vec<u8>>>,
}

impl Cable {
    pub(crate) fn new(weather: Weather) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            weather,
            now_us: 0,
            dice: Dice::new(weather.seed),
            frames: [Vec::new(), Vec::new()],
            kept: None,
        }))
    }

    /// Puts a frame on the cable towards the board, past all weather.
    pub(crate) fn inject(&mut self, frame: Vec<u8>) {
        self.frames[0].push((self.now_us, frame));
    }

    /// When the next frame arrives.
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        self.frames.iter().flatten().map(|(due_us, _)| *due_us).min()
    }

    fn send(&mut self, towards: usize, frame: Vec<u8>) {
        let Weather { lost, doubled, jitter_us, damaged, cut, .. } = self.weather;
        if towards == 0
            && let Some(kept) = &mut self.kept
        {
            kept.push(frame.clone());
        }
        if cut || self.dice.percent(lost) {
            return;
        }
        for _ in 0..=u64::from(self.dice.percent(doubled)) {
            let due_us = self.now_us + DELAY_US + self.dice.roll(jitter_us);
            let mut frame = frame.clone();
            if towards == 0 && self.dice.percent(damaged) {
                self.dice.damage(&mut frame);
            }
            self.frames[towards].push((due_us, frame));
        }
    }

    fn take(&mut self, towards: usize) -> Option<Vec<u8>> {
        let frames = &mut self.frames[towards];
        let (at, _) = frames.iter().enumerate().min_by_key(|(_, (due_us, _))| *due_us)?;
        (frames[at].0 <= self.now_us).then(|| frames.remove(at).1)
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct Plug {
    cable: Rc<RefCell<Cable>>,
    /// What it takes frames from.
    side: usize,
}

impl Plug {
    pub(crate) fn pair(cable: &Rc<RefCell<Cable>>) -> (Self, Self) {
        let plug = |side| Self { cable: cable.clone(), side };
        (plug(0), plug(1))
    }
}

impl Device for Plug {
    type RxToken<'a> = In;
    type TxToken<'a> = Out;

    fn receive(&mut self, _now: Instant) -> Option<(In, Out)> {
        let frame = self.cable.borrow_mut().take(self.side)?;
        Some((In(frame), Out { cable: self.cable.clone(), towards: 1 - self.side }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Out> {
        Some(Out { cable: self.cable.clone(), towards: 1 - self.side })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        if self.side == 0 && self.cable.borrow().weather.damaged > 0 {
            let mut unchecked = ChecksumCapabilities::ignored();
            for each in [&mut unchecked.ipv4, &mut unchecked.udp, &mut unchecked.tcp, &mut unchecked.icmpv4] {
                *each = gateway_link::phy::Checksum::Tx;
            }
            capabilities.checksum = unchecked;
        }
        capabilities
    }
}

pub(crate) struct In(Vec<u8>);

impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, understand: F) -> R {
        understand(&self.0)
    }
}

pub(crate) struct Out {
    cable: Rc<RefCell<Cable>>,
    towards: usize,
}

impl TxToken for Out {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.cable.borrow_mut().send(self.towards, frame);
        result
    }
}
