//! `holdfast`: the command line for people and scripts.
//!
//! It uses what the network can use: the public gRPC API, nothing of a service's inside. Every private key (sign-in,
//! root, release, claim) is made here and stays here; servers see public halves and signatures.
//! Exit codes are listed in `failure.rs`; `--json` prints one JSON document (or one a line for streams) on stdout and
//! nothing else there.

mod args;
mod command;
mod config;
mod crash;
mod debug;
mod failure;
mod fpu;
mod gdb;
mod image;
mod keychange;
mod keyfile;
mod output;
mod project;
mod session;
mod signer;
mod symbols;
mod trace;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    trace::begin(args.global.traceparent());
    // The only TLS provider of the process; a second installation is harmless (DEPENDENCIES §1).
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&error.into(), args.global.json),
    };
    match runtime.block_on(command::run(&args)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => failure::report(&error, args.global.json),
    }
}
