//! What the benchmarks (`src/bin/bench_*.rs`) share: figures, what a process has used, boards heard with their own
//! clock, brokers, and the peers they are held against.

pub mod boards;
pub mod broker;
pub mod delay;
pub mod figure;
pub mod services;
pub mod sockets;
pub mod usage;
