//! No application takes its device offline: one board lives through all of `apps/hostile`, on one boot and one connection.
//!
//! Each application is installed by a directive that comes while the one before it attacks, so that every deployment is
//! also the measure of an update during an attack. What came of each is judged by `scenarios::an505::hostile`; the table is
//! left for `cargo dev test` to print.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::firmware::{HOSTILE, Image};
use dev::qemu::{BOARD, Board};
use factory::map;
use scenarios::an505::board::is_online;
use scenarios::an505::hostile::{Attack, Expected, Seen, Table};
use scenarios::an505::wire::{Counts, Network, Wire};
use scenarios::world::{World, text};
use serde_json::Value;
use wire::manifest::{Component, Confirm, ConnectivityPolicy, CrashPolicy, UpdatePolicy};
use wire::sign::{LayerSpec, ManifestSpec, SoftKey};

use Expected::{Ends, Hangs, Restarts, Stays};

/// Updates beside a quiet application, whose median is what the others are compared with.
const IDLE: usize = 5;
/// Updates during one attack, at most, of which the fastest counts: whatever else this machine does makes them slower only.
const MEASURES_MAX: usize = 12;
/// How long an application may take to show what it comes to. It ends the wait, and what is missing then is in the table.
const SHOWN_MAX: Duration = Duration::from_secs(30);
/// An application that ends is started again soon: its attack goes on.
const CRASH: CrashPolicy =
    CrashPolicy { backoff_min_ms: 20, backoff_max_ms: 100, hold_s: 60, debug_hold_s: 0, memory_bytes: 0 };
const CONFIRM: UpdatePolicy = UpdatePolicy {
    trial_s: 20,
    stable_s: 0,
    confirm: Confirm::Healthy,
    attempts_max: 3,
    polite_s: 0,
    commit_after_s: None,
};
/// Starts after which an application that ends has shown that it ends again.
const STARTS: usize = 3;
/// It computes, and never rests: no emulated time passes by the wall's clock.
const QUIET: &str = "quiet";

const fn attack(name: &'static str, expected: Expected) -> Attack {
    Attack { name, expected, excused: None }
}

/// A fault that cannot be the application's own is the secure world's HardFault.
const HARD: Expected = Ends(&["Hard", "Usage", "StackOverflow"]);
const SECURE: Expected = Ends(&["Secure"]);

const ATTACKS: &[Attack] = &[
    attack("primask-spin", Hangs),
    attack("faultmask-spin", Hangs),
    attack("basepri-spin", Stays),
    attack("handler-spin", Hangs),
    attack("undefined", HARD),
    attack("unaligned", HARD),
    attack("divide", HARD),
    attack("bus-fault", Ends(&["Bus", "Hard", "Usage", "Memory", "StackOverflow"])),
    attack("mem-manage", Ends(&["Bus", "Hard", "Usage", "Memory", "StackOverflow"])),
    attack("lock-up", HARD),
    attack("systick-fault", HARD),
    attack("fault-storm", Stays),
    attack("secure-read", Ends(&["Secure", "Bus", "Hard", "Usage", "StackOverflow"])),
    attack("secure-write", Ends(&["Secure", "Bus", "Hard", "Usage", "StackOverflow"])),
    attack("secure-registers", Stays),
    attack("foreign-peripherals", SECURE),
    attack("ns-watchdog", SECURE),
    attack("dma", SECURE),
    attack("secure-stack", Ends(&["Secure", "Bus", "Hard", "Usage", "StackOverflow"])),
    attack("stack-overflow", Ends(&["StackOverflow"])),
    attack("stack-limit", Ends(&["StackOverflow", "Usage"])),
    attack("vtor", Ends(&["Secure", "Bus", "Hard", "Usage", "StackOverflow"])),
    attack("aircr", Stays),
    attack("nvic", Stays),
    attack("mpu-lent", Stays),
    Attack {
        excused: Some(
            "it is excused on an emulator alone, which takes a lock for each of a million exceptions a second that its \
             timers wait for: the supervisor's turn comes late",
        ),
        ..attack("systick-flood", Stays)
    },
    attack("pendsv-storm", Stays),
    attack("interrupt-storm", Stays),
    attack("deep-sleep", Stays),
    attack("past-sg", SECURE),
    attack("secure-jump", SECURE),
    attack("forged-exception-return", Ends(&["ForgedReturn", "Secure", "Hard", "Usage", "StackOverflow"])),
    attack("forged-function-return", Ends(&["ForgedReturn", "Secure", "Hard", "Usage", "StackOverflow"])),
    // The one before may be told late, when it was replaced as it ended.
    attack("forgotten-calls", Ends(&["ForgedReturn", "Unyielding", "Usage"])),
    attack("call-storm", Stays),
    Attack {
        excused: Some(
            "a call in a handler cannot be put aside: it has the core for 50 ms each time before it is ended, \
             and its manifest has it started again after 20 ms at the earliest",
        ),
        ..attack("call-for-ever", Ends(&["Unyielding"]))
    },
    attack("bad-pointers", Stays),
    attack("semihosting", HARD),
    attack("supervisor-calls", HARD),
    attack("unprivileged", Ends(&["Hard", "Bus"])),
    attack("floating-point", Ends(&["Usage", "Hard"])),
    attack("log-flood", Stays),
    attack("notification-flood", Stays),
    attack("overlapping-notifications", Stays),
    attack("network-flood", Stays),
    attack("telemetry-flood", Stays),
    attack("lent-buffer", Stays),
    attack("restart-flood", Restarts),
    attack("self-modifying", HARD),
    attack("healthy-crash", HARD),
];

/// The kinds of an end that is no fault: the application did not answer. A storm is a flood where its threads have no turn at
/// all, which an emulator gives them: `scenarios::board::walls` shows it.
const HUNG: [&str; 2] = ["Hung", "InterruptFlood"];

/// Where an application's life begins on both consoles, and what was counted by then.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    console: usize,
    app: usize,
    connections: u64,
    resets: u64,
}

/// The device and everything that looks at it.
struct Rig<'w> {
    world: &'w World,
    board: &'w Board,
    wire: &'w Wire,
    device: String,
    flash: PathBuf,
    kept: Vec<u8>,
    boots: Value,
    key: SoftKey,
    version: Cell<u32>,
}

#[tokio::test]
async fn no_hostile_application_takes_its_device_offline() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("hostile").await?;
    let wire = Wire::new(7, Network::default())?;
    let board = world.machine(&flash)?.net(wire.net()).start().await?;
    let (table, wrong) = match run(&world, &board, &wire, flash).await {
        Ok(table) => table.end(),
        Err(error) => (String::new(), vec![format!("{error:#}\n{}", board.tail())]),
    };
    if !wrong.is_empty() {
        world.stack.keep_logs();
    }
    dev::leave_report("hostile", &table)?;
    println!("{table}");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    board.cut_power().await
}

async fn run(world: &World, board: &Board, wire: &Wire, flash: PathBuf) -> Result<Table> {
    let device = world.devices(1, is_online).await?.remove(0);
    let boots = world.one(&["device", "show", &device]).await?["boot_count"].clone();

    let key = SoftKey::from_pkcs8_pem(&std::fs::read_to_string(world.path("keys/release.pem"))?)
        .ok()
        .context("the release key")?;
    let kept = kept(&flash)?;
    let rig = Rig { world, board, wire, device, flash, kept, boots, key, version: Cell::new(0) };

    rig.deploy(QUIET).await?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let from = board.console().count();
        rig.deploy(QUIET).await?;
        idle.push(rig.update_us(from).context("no update start was told")?);
    }
    let mut table = Table::new(idle)?;
    rig.deploy(ATTACKS[0].name).await?;
    for (number, attack) in ATTACKS.iter().enumerate() {
        let next = ATTACKS.get(number + 1).map_or(QUIET, |next| next.name);
        let mut seen = rig.attacked(attack, next).await?;
        for _ in 1..MEASURES_MAX {
            if !table.is_late(attack, &seen) || rig.deploy(attack.name).await.is_err() {
                break;
            }
            let again = rig.attacked(attack, next).await?;
            seen = again.or_worse(seen);
        }
        let lost = seen.next.is_some();
        table.push(attack, &tries(attack.name)?, &seen);
        if lost {
            table.wrong("nothing was tried after that".to_owned());
            break;
        }
    }
    Ok(table)
}

impl Rig<'_> {
    /// Installs this as another version; an error when it is not confirmed.
    async fn deploy(&self, name: &'static str) -> Result<()> {
        let number = self.version.get() + 1;
        self.version.set(number);
        let version = format!("1.0.{number}");
        let bytes = Image::Hostile(name).flat()?;
        let spec = ManifestSpec {
            component: Component::App,
            board: BOARD.to_owned(),
            version: version.clone(),
            sequence_number: 1,
            security_counter: 1,
            microvisor_min: "0.0.0".parse().ok().context("a version")?,
            layers: vec![LayerSpec { destination: 0, bytes: &bytes }],
            area_bytes: None,
            update: CONFIRM,
            debug_keys: Vec::new(),
            crash: CRASH,
            connectivity: ConnectivityPolicy { check_in_s: 900, grace_s: 60 },
            build_time_s: 0,
        };
        let signed = spec.sign(&self.key).ok().context("the bundle cannot be made")?;
        let file = self.world.path(&format!("{version}.hfb"));
        std::fs::write(&file, signed.bundle_file(&spec))?;
        let bundle = scenarios::world::name(&self.world.one(&["bundle", "upload", text(&file)?]).await?)?;
        let end = self.world.deploy(&self.device, &bundle).await?;
        ensure!(end == ("STATE_CONFIRMED".into(), String::new()), "{end:?}");
        Ok(())
    }

    fn since(&self, name: &str) -> Since {
        let lines = self.board.console().lines();
        let installed = lines.iter().rev().find(|line| line.text.ends_with("update: Installing"));
        // The one before runs on while this one is measured, and may end then.
        let installed = installed.map_or(0, |line| line.number);
        let started = lines.iter().find(|line| line.number > installed && line.text.contains("AppStarted"));
        let lines = self.board.app().lines();
        let begun = lines.iter().find(|line| line.text.contains(&format!("hostile {name} ")));
        Since {
            console: started.map_or(installed, |line| line.number),
            app: begun.map_or_else(|| self.board.app().count(), |line| line.number),
            connections: Counts::read(&self.wire.counts().connections),
            resets: self.board.resets(),
        }
    }

    /// Has the application attack, and another one installed meanwhile.
    async fn attacked(&self, attack: &Attack, next: &'static str) -> Result<Seen> {
        let since = self.since(attack.name);
        let (directed, end) = tokio::select! {
            biased;
            outcome = async {
                self.shown(attack, since).await;
                (self.board.console().count(), self.deploy(next).await)
            } => outcome,
            lost = self.let_loose(attack.name, since.app) => (self.board.console().count(), lost),
        };
        let mut seen = self.seen(attack, since, directed)?;
        seen.next = end.err().map(|error| format!("{error:#}"));
        seen.boots = u64::from(self.boot_count().await? != self.boots);
        Ok(seen)
    }

    /// Gives an application its word whenever it is ready for it; comes back when the board is gone.
    async fn let_loose(&self, name: &str, mut from: usize) -> Result<()> {
        let word = name.bytes().fold(0, u8::wrapping_add);
        loop {
            let line =
                self.board.app().line_after(from, &format!("hostile {name} ready"), Duration::MAX).await?;
            self.board.app().send(&[word]).await?;
            from = line.number + 1;
        }
    }

    /// Waits until the application has shown what it comes to, or long enough.
    async fn shown(&self, attack: &Attack, since: Since) {
        let (what, times) = match attack.expected {
            Ends(_) => ("start", STARTS),
            Hangs | Restarts => ("start", 2),
            Stays => ("start", 1),
        };
        let mut from = since.app;
        for _ in 0..times {
            let text = format!("hostile {} {what} ", attack.name);
            match self.board.app().line_after(from, &text, SHOWN_MAX).await {
                Ok(line) => from = line.number + 1,
                Err(_) => return,
            }
        }
    }

    fn seen(&self, attack: &Attack, since: Since, directed: usize) -> Result<Seen> {
        let app = self.board.app().lines();
        // Wherever in a line: the one before may have been stopped in the middle of its own.
        let said = |what: &str| {
            let start = format!("hostile {} {what} ", attack.name);
            app.iter()
                .filter_map(|line| line.text.strip_prefix(&start))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let lines = self.board.console().lines();
        let installed = lines.iter().filter(|line| line.number > directed);
        let until = installed.clone().find(|line| line.text.ends_with("update: Installing"));
        let until = until.map_or(usize::MAX, |line| line.number);
        let told = lines.iter().filter(|line| (since.console..until).contains(&line.number));
        let ended = told.clone().filter_map(|line| line.text.split_once("application ended: "));
        let kinds = ended.filter_map(|(_, how)| how.split(' ').next().map(str::to_owned));
        // What the one before ended by as it was replaced is told after this one was started.
        let kinds: Vec<String> = kinds.collect();
        let of_this = told.filter(|line| line.text.ends_with("AppCrashed") || line.text.ends_with("AppHung"));
        let kinds = &kinds[kinds.len().saturating_sub(of_this.count())..];
        let hung = kinds.iter().filter(|kind| HUNG.contains(&kind.as_str())).count();
        let ended = kinds.iter().filter(|kind| !HUNG.contains(&kind.as_str())).cloned().collect();
        Ok(Seen {
            starts: said("start").len(),
            rounds: said("round").last().and_then(|rounds| rounds.parse().ok()).unwrap_or(0),
            ended,
            hung,
            breaches: said("BREACH"),
            connections: Counts::read(&self.wire.counts().connections) - since.connections,
            resets: self.board.resets() - since.resets,
            boots: 0,
            flash_kept: kept(&self.flash)? == self.kept,
            next: None,
            update_us: self.update_us(directed),
        })
    }

    /// What the device said of the first update that started after this line of its console.
    fn update_us(&self, from: usize) -> Option<u64> {
        let lines = self.board.console().lines();
        let mut told = lines.iter().filter(|line| line.number >= from);
        told.find_map(|line| line.text.split_once("bench update_start_us ")?.1.parse().ok())
    }

    async fn boot_count(&self) -> Result<Value> {
        Ok(self.world.one(&["device", "show", &self.device]).await?["boot_count"].clone())
    }
}

/// Of the flash what only the factory, an enrolment or an update of the microvisor writes.
fn kept(flash: &Path) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::open(flash)?;
    let mut kept = Vec::new();
    let slots = map::SLOTS.map(|slot| (slot, map::SLOT_BYTES));
    for (at, bytes) in
        [&[(map::PROVISION, map::PROVISION_BYTES), (map::IDENTITY, map::IDENTITY_BYTES)], &slots[..]].concat()
    {
        let mut piece = vec![0; bytes as usize];
        file.read_exact_at(&mut piece, at.into())?;
        kept.extend(piece);
    }
    Ok(kept)
}

/// What an application tries, as its source says first.
fn tries(name: &str) -> Result<String> {
    let file = dev::root().join(format!("gateway-firmware/apps/hostile/src/bin/{name}.rs"));
    let source = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let said = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    Ok(said.collect::<Vec<_>>().join(" "))
}

#[test]
fn every_hostile_application_is_tried() {
    let mut tried: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
    tried.extend([QUIET, "log-lines", "measure"]);
    tried.sort_unstable();
    assert_eq!(tried, HOSTILE);
}
