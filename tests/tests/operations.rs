//! What operators rely on: a configuration that can be checked before it is used, a doctor that names what is wrong, and a process
//! that ends when it is told to.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::{Service, Signal, Stack};
use scenarios::world::{Output, PATIENCE, World, text};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// kit's bound on a drain, and what a busy machine may add.
const DRAIN_MAX: Duration = Duration::from_secs(20);

async fn check_config(service: Service, env: &[(String, String)]) -> Result<Output> {
    let mut command = Command::new(dev::binary(service.name())?);
    command.arg("--check-config").env_clear().envs(env.iter().cloned()).stdin(Stdio::null());
    let output = command.output().await?;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[tokio::test]
async fn every_service_shows_what_it_runs_with_but_no_secret_and_all_that_is_wrong() -> Result<()> {
    // Nothing runs but the database: the check connects nowhere.
    let stack = Stack::start(dev::Options::only([dev::Part::Postgres])).await?;
    for service in Service::ALL {
        let mut env = stack.environment(service);
        let good = check_config(service, &env).await?;
        ensure!(good.code == 0 && !good.stdout.contains("warning"), "{service:?}: {}", good.stdout);
        let secret =
            |key: &str| ["POSTGRES_URL", "REDIS_URL", "S3_SECRET_KEY"].iter().any(|end| key.ends_with(end));
        for (key, value) in &env {
            let line = good.stdout.lines().find(|line| line.starts_with(&format!("{key} ")));
            let line = line.with_context(|| format!("{service:?} does not show {key}"))?;
            ensure!(line.ends_with("environment") && line.contains(value.as_str()) != secret(key), "{line}");
        }

        // What parses and still cannot be used is found without using it.
        for (key, value) in [
            ("HOLDFAST_OTLP_ENDPOINT", "collector:4317"),
            ("HOLDFAST_POSTGRES_URL", "nonsense"),
            ("HOLDFAST_REDIS_URL", "nonsense"),
            ("HOLDFAST_REGISTRY_URL", "http://localhost:1"),
            ("HOLDFAST_BROKER_URL", "zzz"),
            ("HOLDFAST_BROKER_CONTROL_URLS", "http://localhost:1"),
            ("HOLDFAST_MASTER_KEY_FILE", "/etc/hostname"),
            ("HOLDFAST_S3_ENDPOINT", "s3.example.com"),
        ] {
            if key != "HOLDFAST_OTLP_ENDPOINT" && !env.iter().any(|(known, _)| known == key) {
                continue;
            }
            let mut env = env.clone();
            env.retain(|(known, _)| known != key);
            env.push((key.into(), value.into()));
            let bad = check_config(service, &env).await?;
            ensure!(
                bad.code == 2 && bad.stdout.contains(&format!("wrong: {key}: ")),
                "{service:?}: {}",
                bad.stdout
            );
        }

        // Everything wrong at once.
        env.retain(|(key, _)| key != "HOLDFAST_METRICS_LISTEN");
        env.push(("HOLDFAST_GRPC_LISTEN".into(), "nowhere".into()));
        env.push(("HOLDFAST_TLS_KEY".into(), "/nonexistent".into()));
        env.push(("HOLDFAST_GRCP_LISTEN".into(), "127.0.0.1:0".into()));
        let bad = check_config(service, &env).await?;
        ensure!(bad.code == 2, "{}", bad.stdout);
        for words in [
            "wrong: HOLDFAST_METRICS_LISTEN: is missing",
            "wrong: HOLDFAST_GRPC_LISTEN: invalid socket address",
            "wrong: HOLDFAST_TLS_KEY: /nonexistent cannot be read",
            "warning: HOLDFAST_GRCP_LISTEN: nothing reads it; did you mean HOLDFAST_GRPC_LISTEN?",
            "3 wrong",
        ] {
            ensure!(bad.stdout.contains(words), "{words} is not in\n{}", bad.stdout);
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_variable_that_a_service_reads_is_explained() -> Result<()> {
    let page = std::fs::read_to_string(dev::root().join("docs/operations.md"))?;
    let brokers = std::fs::read_to_string(dev::root().join("docs/brokers.md"))?;
    for service in Service::ALL {
        let help = Command::new(dev::binary(service.name())?).arg("--help").output().await?;
        let help = String::from_utf8(help.stdout)?;
        let keys = help.lines().filter_map(|line| line.trim().strip_prefix("HOLDFAST_"));
        for key in keys {
            // The broker's bounds have a table of their own, by `{who}` where there are three.
            let bound =
                ["DEVICE", "ENROLLEE", "SERVICE"].iter().find_map(|who| key.strip_prefix(&format!("{who}_")));
            let there = page.contains(&format!("`{key}`"))
                || brokers.contains(&format!("`{key}`"))
                || bound.is_some_and(|bound| brokers.contains(&format!("`{{who}}_{bound}`")));
            ensure!(
                there,
                "neither docs/operations.md nor docs/brokers.md explains {key} of {}",
                service.name()
            );
        }
    }
    Ok(())
}

/// The findings of `holdfast doctor`, and how it ended.
async fn doctor(world: &World) -> Result<(i32, Vec<Value>)> {
    let output = world.try_cli(&["doctor", "--json"]).await?;
    let findings = output.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>();
    Ok((output.code, findings.with_context(|| output.stderr)?))
}

fn found<'f>(findings: &'f [Value], check: &str, result: &str) -> Result<&'f Value> {
    let is = |finding: &&Value| finding["check"] == check && finding["result"] == result;
    findings.iter().find(is).with_context(|| format!("{check} is not {result}: {findings:#?}"))
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_with_a_healthy_installation_and_names_what_is() -> Result<()> {
    let world = World::start().await?;
    let (code, findings) = doctor(&world).await?;
    found(&findings, "enrolment", "warning")?;
    ensure!(code == 0, "a warning is no failure: {findings:#?}");
    world.provision("claim", 1).await?;
    let (code, findings) = doctor(&world).await?;
    let healthy = findings.iter().all(|finding| finding["result"] == "ok" && finding["advice"] == "");
    ensure!(code == 0 && healthy, "{findings:#?}");
    for check in
        ["context", "key file", "svc-registry", "svc-ota", "svc-logs", "sign-in", "keyset", "enrolment"]
    {
        found(&findings, check, "ok")?;
    }

    // A service and the broker are away.
    world.stack.stop(Service::Logs).await?;
    world.stack.stop(Service::Broker).await?;
    let (code, findings) = doctor(&world).await?;
    ensure!(code == 1, "{findings:#?}");
    for check in ["svc-logs", "enrolment"] {
        let finding = found(&findings, check, "failed")?;
        let (detail, advice) = (finding["detail"].as_str(), finding["advice"].as_str());
        ensure!(
            detail.is_some_and(|text| text.contains("refused"))
                && advice.is_some_and(|text| !text.is_empty())
        );
    }
    found(&findings, "svc-ota", "ok")?;

    // The context believes another CA; its key is for everybody to read.
    let config = world.path("config.toml");
    let ca = text(&world.stack.server_ca_file())?.to_owned();
    let other = world.stack.dir().join("pki/service-ca.pem");
    let told = std::fs::read_to_string(&config)?;
    std::fs::write(&config, told.replace(&ca, text(&other)?))?;
    let key = told.lines().find_map(|line| line.strip_prefix("key_file = ")).context("no key file")?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(key.trim_matches('"'), std::fs::Permissions::from_mode(0o644))?;
    let (code, findings) = doctor(&world).await?;
    ensure!(
        code == 1
            && found(&findings, "svc-ota", "failed")?["advice"].as_str().is_some_and(|a| a.contains("CA"))
    );
    ensure!(
        found(&findings, "key file", "warning")?["advice"].as_str().is_some_and(|a| a.contains("chmod 600"))
    );
    found(&findings, "sign-in", "failed")?;
    Ok(())
}

#[tokio::test]
async fn a_service_whose_callers_never_read_ends_within_its_bound_when_it_is_told_to() -> Result<()> {
    let world = World::start().await?;
    // A watcher that is stopped reads nothing any more, and does not leave either.
    let mut watch = world.command(&["device", "watch", "--json"])?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no stdout")?).lines();
    tokio::time::timeout(PATIENCE, lines.next_line()).await??;
    dev::signal(i32::try_from(watch.id().context("it runs")?)?, Signal::Stop)?;
    let registry = world.stack.process(Service::Registry).context("it runs")?;
    let status = registry.stop(Signal::Terminate, DRAIN_MAX).await?;
    ensure!(status.success(), "it ended with {status}");
    watch.start_kill()?;
    Ok(())
}
