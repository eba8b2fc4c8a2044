//! The microvisor's own slots and the first stage's record, for the core to exchange it.

use chip::flash::Window;
use chip::map::{flash, secure};
use gateway_core::boot::first::{Handover, SlotLayout};
use gateway_core::ports::{BootReason, Exchange, Firmware};

const LAYOUT: SlotLayout = SlotLayout {
    keyset_at: flash::SLOT_KEYSET,
    envelope_at: flash::SLOT_ENVELOPE,
    image_at: flash::SLOT_IMAGE,
    image_bytes: secure::MICROVISOR_BYTES,
};

/// This board's firmware.
#[derive(Debug)]
pub(crate) struct BoardFirmware {
    slots: Window,
    record: Window,
    /// Nothing if no first stage started this: then nothing is exchanged.
    handover: Option<Handover>,
}

impl BoardFirmware {
    pub(crate) const fn new(handover: Option<Handover>) -> BoardFirmware {
        BoardFirmware { slots: Window::slots(), record: Window::boot_record(), handover }
    }
}

impl Firmware for BoardFirmware {
    type Flash = Window;

    fn handover(&self) -> Option<&Handover> {
        self.handover.as_ref()
    }

    fn exchange(&mut self) -> Option<Exchange<'_, Window>> {
        let BoardFirmware { slots, record, handover } = self;
        Some(Exchange { slots, layout: LAYOUT, record, handover: handover.as_ref()? })
    }

    fn restart(&mut self) {
        chip::reset::now(BootReason::Update)
    }
}
