//! A harness that starts a stack, says which processes it consists of, and waits to be killed. For the test that nothing outlives it.

#![expect(clippy::print_stdout, reason = "the test reads the process ids")]

use dev::{Options, Part, Stack};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stack = Stack::start(Options::only([Part::Postgres, Part::Redis])).await?;
    let pids = [Part::Postgres, Part::Redis]
        .map(|part| stack.process(part).map_or(0, |process| process.pid()).to_string());
    println!("{} {}", stack.dir().display(), pids.join(" "));
    std::future::pending().await
}
