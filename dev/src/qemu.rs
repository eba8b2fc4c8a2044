//! The emulated board: QEMU's `mps2-an505` with a flash that is a file, two consoles whose lines can be awaited, entropy on a
//! third serial, and a monitor for resets and power cuts.
//!
//! What always holds: semihosting is off; the machine ends with its [`Board`], and with us when we are killed; the flash file is
//! all that is kept, written through as the board writes it, so that killing the machine is a power cut.
//! QEMU connects to sockets we already listen at: no line of a console is lost, and nothing is polled.

mod console;
mod monitor;
mod probe;

use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{UnixListener, UnixStream};

pub use console::{Console, Line};
use monitor::Monitor;
pub use probe::Probe;

use crate::process::{Process, Signal, Spec};
use crate::{places, secret};

/// The program that emulates it.
pub const PROGRAM: &str = "qemu-system-arm";
/// The board as manifests and provisioning name it.
pub const BOARD: &str = "an505";
/// Where a board finds this machine's loopback: QEMU's user network.
pub const HOST_IP: &str = "10.0.2.2";
/// Bytes of the flash: QEMU insists (`chip::map::flash::BYTES`).
pub const FLASH_BYTES: u64 = 16 * 1024 * 1024;

/// Where the processor looks for its reset vectors (`chip::map::secure::BOOT_AT`).
const VECTORS_AT: u32 = 0x1000_0000;
/// How long QEMU may take to connect to us.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// How long it may take to end.
const STOP_MAX: Duration = Duration::from_secs(10);

/// What the board's Ethernet is plugged into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Net {
    /// Nothing.
    Unplugged,
    /// QEMU's user network: DHCP, DNS, and this machine at [`HOST_IP`].
    #[default]
    User,
    /// The same, but every frame passes through whoever listens at the sockets [`wire_sockets`] names in this folder.
    Through(PathBuf),
}

/// How the board's clock runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as this machine runs it, with the wall's time.
    #[default]
    Wall,
    /// An instruction takes 2^shift ns, so that a run can be repeated; `sleep` keeps it from running ahead of the wall's
    /// time, which a network needs.
    Instructions { shift: u8, sleep: bool },
}

/// The four sockets of [`Net::Through`], each frame with its length before it as 32 bits, the most significant first:
/// frames the board sent, frames to go on from there, frames for the board, frames to go on to it.
pub fn wire_sockets(folder: &Path) -> [PathBuf; 4] {
    ["up-out", "up-in", "down-out", "down-in"].map(|name| folder.join(name))
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Machine {
    boot: PathBuf,
    flash: PathBuf,
    logs: PathBuf,
    name: String,
    net: Net,
    pace: Pace,
    gdb: Option<u16>,
    probed: bool,
    halted: bool,
    vectors: Option<[u32; 2]>,
}

impl Machine {
    /// A board that starts this ELF with this flash file, and leaves what it says in `logs` under its name.
    pub fn new(
        name: &str,
        boot: impl Into<PathBuf>,
        flash: impl Into<PathBuf>,
        logs: impl Into<PathBuf>,
    ) -> Machine {
        Machine {
            boot: boot.into(),
            flash: flash.into(),
            logs: logs.into(),
            name: name.to_owned(),
            net: Net::default(),
            pace: Pace::default(),
            gdb: None,
            probed: false,
            halted: false,
            vectors: None,
        }
    }

    #[must_use]
    pub fn net(mut self, net: Net) -> Machine {
        self.net = net;
        self
    }

    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Machine {
        self.pace = pace;
        self
    }

    /// It starts with these reset vectors, a stack and an address, instead of those of a first stage.
    #[must_use]
    pub fn vectors(mut self, vectors: [u32; 2]) -> Machine {
        self.vectors = Some(vectors);
        self
    }

    /// A debugger of the whole machine, secure world included, may attach to this port of the loopback.
    #[must_use]
    pub fn gdb(mut self, port: Option<u16>) -> Machine {
        self.gdb = port;
        self
    }

    /// [`Board::probe`] may be called, in place of [`Machine::gdb`].
    #[must_use]
    pub fn probed(mut self) -> Machine {
        self.probed = true;
        self
    }

    /// It stands still before its first instruction, until a probe lets it go on.
    #[must_use]
    pub fn halted(mut self) -> Machine {
        self.halted = true;
        self.probed()
    }

    /// Power on. Unless it is to be [`Machine::halted`], it runs when this returns.
    pub async fn start(&self) -> Result<Board> {
        let folder = Folder::make()?;
        std::fs::create_dir_all(&self.logs).with_context(|| format!("making {}", self.logs.display()))?;
        symlink("/dev/urandom", folder.path("rng.in"))?;
        symlink("/dev/null", folder.path("rng.out"))?;
        let listen = |name| UnixListener::bind(folder.path(name)).context("listening for QEMU");
        let (secure, app, monitor) = (listen("secure")?, listen("app")?, listen("monitor")?);
        let process = Process::spawn(self.spec(&folder)?)?;
        let connected = async {
            let streams = tokio::try_join!(secure.accept(), app.accept(), monitor.accept())?;
            anyhow::Ok([streams.0.0, streams.1.0, streams.2.0])
        };
        let [secure, app, monitor]: [UnixStream; 3] = tokio::select! {
            streams = connected => streams?,
            ended = process.ended(CONNECT_MAX) => bail!("QEMU did not start ({ended:?})\n{}", process.tail()),
        };
        Ok(Board {
            secure: Console::read("secure console", secure),
            app: Console::read("application's UART", app),
            monitor: Monitor::open(monitor).await?,
            process,
            folder,
        })
    }

    fn spec(&self, folder: &Folder) -> Result<Spec> {
        let log = |what: &str| self.logs.join(format!("{}-{what}.log", self.name));
        let mut spec = Spec::new(&self.name, places::program(PROGRAM)?, log("qemu"))
            .args([
                "-M",
                "mps2-an505,memory-backend=flash",
                "-display",
                "none",
                "-monitor",
                "none",
                "-object",
            ])
            .arg(format!(
                "memory-backend-file,id=flash,size={FLASH_BYTES},mem-path={},share=on",
                escaped(&self.flash)?
            ))
            .arg("-kernel")
            .arg(&self.boot);
        for name in ["secure", "app"] {
            let (socket, log) = (escaped(&folder.path(name))?, escaped(&log(name))?);
            let device = format!("socket,id={name},path={socket},logfile={log},logappend=on");
            spec = spec.args(["-chardev", &device, "-serial", &format!("chardev:{name}")]);
        }
        let entropy = format!("pipe,id=entropy,path={}", escaped(&folder.path("rng"))?);
        let monitor = format!("socket,id=monitor,path={}", escaped(&folder.path("monitor"))?);
        spec = spec.args(["-chardev", &entropy, "-serial", "chardev:entropy"]);
        spec = spec.args(["-chardev", &monitor, "-mon", "chardev=monitor,mode=control"]);
        if let Pace::Instructions { shift, sleep } = self.pace {
            let sleep = if sleep { "on" } else { "off" };
            spec = spec.args(["-icount", &format!("shift={shift},sleep={sleep}")]);
        }
        if let Some(vectors) = self.vectors {
            let file = folder.path("vectors");
            std::fs::write(&file, vectors.map(u32::to_le_bytes).concat())?;
            let loader = format!("loader,file={},addr={VECTORS_AT:#x},force-raw=on", escaped(&file)?);
            spec = spec.args(["-device", &loader]);
        }
        if let Some(port) = self.gdb {
            spec = spec.args(["-gdb", &format!("tcp:127.0.0.1:{port}")]);
        }
        if self.probed {
            let socket = escaped(&folder.path("probe"))?;
            spec = spec.args(["-gdb", &format!("unix:{socket},server=on,wait=off")]);
        }
        if self.halted {
            spec = spec.args(["-S"]);
        }
        self.plug(spec)
    }

    /// `filter-redirector` steals each frame to `outdev` and lets what comes from `indev` go on behind itself.
    fn plug(&self, spec: Spec) -> Result<Spec> {
        let folder = match &self.net {
            Net::Unplugged => return Ok(spec.args(["-nic", "none"])),
            Net::User => return Ok(spec.args(["-nic", "user,model=lan9118"])),
            Net::Through(folder) => folder,
        };
        let mut spec = spec.args(["-nic", "user,model=lan9118,id=net"]);
        let ids = ["up-out", "up-in", "down-out", "down-in"];
        for (id, socket) in ids.into_iter().zip(wire_sockets(folder)) {
            spec = spec.args(["-chardev", &format!("socket,id={id},path={}", escaped(&socket)?)]);
        }
        // Seen from the network: `rx` is what the board sends.
        for (id, queue) in [("up", "rx"), ("down", "tx")] {
            let filter =
                format!("filter-redirector,id={id},netdev=net,queue={queue},outdev={id}-out,indev={id}-in");
            spec = spec.args(["-object", &filter]);
        }
        Ok(spec)
    }
}

/// A board with power.
#[derive(Debug)]
pub struct Board {
    secure: Console,
    app: Console,
    monitor: Monitor,
    process: Process,
    folder: Folder,
}

impl Board {
    /// What the first stage and the microvisor say: UART0.
    pub fn console(&self) -> &Console {
        &self.secure
    }

    /// What the application says by itself: UART1.
    pub fn app(&self) -> &Console {
        &self.app
    }

    /// The emulator.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A warm reset from outside: RAM keeps what is in it.
    pub async fn reset(&self) -> Result<()> {
        self.monitor.run("system_reset").await
    }

    /// Stops the machine and its clock.
    pub async fn freeze(&self) -> Result<()> {
        self.monitor.run("stop").await
    }

    /// Lets it go on.
    pub async fn thaw(&self) -> Result<()> {
        self.monitor.run("cont").await
    }

    /// Stops the machine to look into it; it goes on when the probe is detached.
    pub async fn probe(&self) -> Result<Probe> {
        Probe::attach(&self.probe_socket()).await
    }

    /// Where a gdb finds the server of a machine that is [`Machine::probed`].
    pub fn probe_socket(&self) -> PathBuf {
        self.folder.path("probe")
    }

    /// How often it was reset since power on, by whomever.
    pub fn resets(&self) -> u64 {
        self.monitor.resets()
    }

    /// Waits until it was reset so often since power on.
    pub async fn reset_seen(&self, count: u64, within: Duration) -> Result<()> {
        self.monitor.reset_seen(count, within).await
    }

    /// Power off in the middle of whatever it does. The flash file is what is left.
    pub async fn cut_power(self) -> Result<()> {
        self.process.stop(Signal::Kill, STOP_MAX).await.map(drop)
    }

    /// The end of both consoles and of what QEMU complained about.
    pub fn tail(&self) -> String {
        format!("{}\n{}\n{}", self.secure.tail(), self.app.tail(), self.process.tail())
    }
}

/// A folder for sockets: `sun_path` has 108 bytes, and a checkout may lie deep.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("holdfast-qemu-{}", secret::hex(8)?));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))?;
        Ok(Folder(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Sockets of a machine that is gone: nothing is lost when it cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A path within an option of QEMU, where a comma would end it.
fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.replace(',', ",,"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(machine: &Machine) -> Vec<String> {
        let folder = Folder::make().expect("a folder");
        let spec = machine.spec(&folder).expect("QEMU is installed");
        spec.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        let machine = Machine::new("b", "boot", "/a,b/flash", "/tmp");
        assert!(words(&machine).iter().any(|word| word.contains("mem-path=/a,,b/flash,share=on")));
    }

    #[test]
    fn semihosting_is_never_asked_for_and_a_board_may_have_no_network() {
        let nets = [Net::Unplugged, Net::User, Net::Through(PathBuf::from("wire"))];
        for words in nets.map(|net| words(&Machine::new("b", "boot", "flash", "/tmp").net(net))) {
            assert!(words.iter().all(|word| !word.contains("semihosting")));
            assert_eq!(words.iter().filter(|word| *word == "-nic").count(), 1);
        }
    }

    #[test]
    fn the_folder_of_the_sockets_goes_with_it() {
        let folder = Folder::make().expect("a folder");
        let path = folder.0.clone();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
