//! gdb on the application of an emulated board: through `holdfast debug`, the relay, the broker and TLS; and the same through QEMU's own
//! server, whose answers must be the same.

mod blind;
mod c;
mod compared;
mod costs;
mod cppdbg;
mod dap;
mod embassy;
mod exec;
mod ours;
mod restart;
mod rust;
mod suite;
mod survives;
mod two;
mod update;
mod vscode;
mod watch;
mod ways;
