//! The harness: a whole Holdfast on one machine, for `cargo dev` and for every test that needs the real thing.
//!
//! [`Stack::start`] brings up a private Postgres cluster, Redis, an S3 server and the services asked for, each as a child
//! process on a free loopback port with credentials made for this stack alone. Two stacks never share anything.
//!
//! What always holds: nothing outlives the process that started it (children die with it, even when it is killed); a child is
//! stopped through its own handle, never by name; every file lies in the stack's own directory under `.dev/`.
//! It depends on no other crate of ours: it runs binaries, so that a test exercises what is shipped.

pub mod coverage;
mod endpoints;
mod environment;
pub mod factory;
pub mod firmware;
mod mosquitto;
mod options;
mod pki;
mod places;
mod ports;
mod postgres;
mod process;
pub mod protos;
pub mod qemu;
mod secret;
mod stack;

pub use endpoints::S3;
pub use options::{Broker, Options, Part, Service, State};
pub use places::{
    binary, binary_dir, buf, debug_adapter, dot_dev, leave_report, program, python, reports_dir, root,
};
pub use postgres::elsewhere;
pub use process::{Process, Ready, Signal, Spec, is_root, signal, terminate};
pub use stack::Stack;

/// The identity of a certificate made by this stack: (certificate, private key), both PEM.
pub type Identity = (String, String);
