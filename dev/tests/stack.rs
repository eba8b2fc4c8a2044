//! The harness against the real Postgres and Redis, without any service of ours.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use dev::{Options, Part, Service, Stack};

type Outcome = Result<(), anyhow::Error>;

#[tokio::test]
async fn a_stopped_part_comes_back_on_its_port_with_its_data() -> Outcome {
    let stack = Stack::start(Options::only([Part::Postgres, Part::Redis])).await?;
    stack.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7);")?;
    let redis = redis_address(&stack);
    TcpStream::connect(&redis)?;

    stack.restart(Part::Postgres).await?;
    assert_eq!(stack.sql("SELECT n FROM kept")?, "7");
    stack.kill(Part::Postgres).await?;
    assert!(stack.sql("SELECT 1").is_err());
    stack.start_service(Part::Postgres).await?;
    assert_eq!(stack.sql("SELECT n FROM kept")?, "7");

    stack.stop(Part::Redis).await?;
    assert!(TcpStream::connect(&redis).is_err());
    stack.start_service(Part::Redis).await?;
    TcpStream::connect(&redis)?;
    Ok(())
}

#[tokio::test]
async fn two_stacks_side_by_side_share_nothing() -> Outcome {
    let options = || Options::only([Part::Postgres, Part::Redis]);
    let (one, two) = tokio::try_join!(Stack::start(options()), Stack::start(options()))?;
    one.sql("CREATE TABLE mine ()")?;
    assert!(two.sql("SELECT * FROM mine").is_err());
    assert_ne!(one.postgres_url_admin(), two.postgres_url_admin());
    assert_ne!(one.redis_url(), two.redis_url());
    assert_ne!(one.server_ca_pem()?, two.server_ca_pem()?);
    assert_ne!(one.service_identity("svc-ota")?, two.service_identity("svc-ota")?);

    let dir = one.dir().to_path_buf();
    drop(one);
    assert!(!dir.exists(), "a dropped stack leaves nothing");
    assert_eq!(two.sql("SELECT 1")?, "1");
    Ok(())
}

#[tokio::test]
async fn a_service_role_owns_its_schema_and_nothing_else() -> Outcome {
    let stack = Stack::start(Options::only([Part::Postgres])).await?;
    stack.sql(
        "CREATE TABLE registry.t (); SET ROLE holdfast_ota; CREATE TABLE ota.t (); SELECT 1 FROM ota.t;",
    )?;
    for denied in [
        "CREATE TABLE public.t ()",
        "CREATE TABLE registry.t ()",
        "CREATE SCHEMA mine",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "SELECT * FROM registry.t",
        "SET ROLE holdfast_registry; CREATE TABLE registry.t ()",
    ] {
        let outcome = stack.sql(&format!("SET SESSION AUTHORIZATION holdfast_ota; {denied};"));
        let error = outcome.expect_err(denied).to_string();
        assert!(error.contains("permission denied") || error.contains("must be"), "{denied}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_kept_state_comes_back_with_its_data_and_credentials() -> Outcome {
    let dir = dev::dot_dev().join("run").join(format!("kept-{}", std::process::id()));
    let options = || Options::only([Part::Postgres]).keep(&dir);
    let first = Stack::start(options()).await?;
    first.sql("CREATE TABLE kept ()")?;
    let url = first.postgres_url(Service::Ota)?;
    let error = Stack::start(options()).await.expect_err("one stack a directory").to_string();
    assert!(error.contains("already runs"), "{error}");
    first.shutdown().await?;

    let second = Stack::start(options()).await?;
    second.sql("SELECT * FROM kept")?;
    assert_eq!(second.postgres_url(Service::Ota)?, url);
    second.shutdown().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

#[tokio::test]
async fn a_binary_that_is_not_built_is_named_with_the_command_that_builds_it() {
    let error = dev::binary("svc-nothing").expect_err("there is no such binary").to_string();
    assert!(error.contains("cargo build --bin svc-nothing"), "{error}");
}

#[tokio::test]
async fn a_part_that_cannot_start_says_why() -> Outcome {
    let log = dev::dot_dev().join(format!("failing-{}.log", std::process::id()));
    let mut spec = dev::Spec::new("failing", "/bin/sh", &log).arg("-c").arg("echo no disk left >&2; exit 3");
    spec.ready = dev::Ready::Stdout("never");
    let process = dev::Process::spawn(spec)?;
    let error = process.ready(std::time::Duration::from_secs(20)).await.expect_err("it ended").to_string();
    std::fs::remove_file(log)?;
    assert!(error.contains("no disk left") && error.contains('3'), "{error}");
    Ok(())
}

#[tokio::test]
async fn nothing_outlives_a_harness_that_is_killed() -> Outcome {
    let program = dev::binary_dir()?.join("examples/wait");
    let mut harness = Command::new(program).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(harness.stdout.take().expect("piped")).read_line(&mut line)?;
    let (dir, pids) = line.trim().split_once(' ').expect("a directory and process ids");
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().expect("a process id")).collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| runs(*pid)), "{line}");

    harness.kill()?;
    harness.wait()?;
    let all_gone = async {
        while pids.iter().any(|pid| runs(*pid)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_gone).await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Whether there is such a process that is more than a zombie nobody has reaped yet.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn redis_address(stack: &Stack) -> String {
    let url = stack.redis_url();
    let address = url.split('@').nth(1).unwrap_or_default();
    address.trim_end_matches("/0").to_owned()
}
