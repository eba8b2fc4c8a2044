//! The command line as a person and a script meet it: exit codes, errors that say what to do, JSON, interruptions.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use scenarios::world::{Output, World, name, text};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

const GOOD: &str = "#!holdfast-script\nlog hello\nhealthy\nwork 200\nrepeat\n";

/// The exit codes of docs and `cli/src/failure.rs`.
const REFUSED_INPUT: i32 = 6;
const NO_SUCH_THING: i32 = 5;
const NOT_ALLOWED: i32 = 4;
const UNREACHABLE: i32 = 3;
const USAGE: i32 = 2;

fn says(output: &Output, code: i32, words: &str) -> Result<()> {
    ensure!(output.code == code, "exit code {} instead of {code}: {}", output.code, output.stderr);
    ensure!(output.stderr.contains(words), "`{words}` is not in: {}", output.stderr);
    Ok(())
}

#[tokio::test]
async fn bad_bundles_are_refused_before_and_by_the_server_with_what_is_wrong() -> Result<()> {
    let world = World::start().await?;
    let file = world.bundle_file(GOOD.as_bytes(), "1.0.0", 1, &[]).await?;
    let good = std::fs::read(&file)?;
    let (bad_file, path) = (world.path("bad.hfb"), text(&file)?);
    let bad_path = text(&bad_file)?;

    std::fs::write(&bad_file, &good[..good.len() - 1])?;
    says(&world.try_cli(&["bundle", "upload", bad_path]).await?, REFUSED_INPUT, "malformed bundle file")?;
    let mut flipped = good.clone();
    *flipped.last_mut().context("an empty bundle")? ^= 1;
    std::fs::write(&bad_file, &flipped)?;
    says(&world.try_cli(&["bundle", "inspect", bad_path]).await?, REFUSED_INPUT, "layer 0")?;
    std::fs::write(&bad_file, b"hello")?;
    says(&world.try_cli(&["bundle", "upload", bad_path]).await?, REFUSED_INPUT, "not a bundle file")?;

    // Signed, but by a key the tenant's keyset does not name.
    let stranger = world.path("stranger.pem");
    world.cli(&["key", "generate", text(&stranger)?]).await?;
    let image = world.path("1.0.0.image");
    let mut create = vec!["bundle", "create", "--board", "host", "--version", "6.6.6", "--counter", "6"];
    create.extend(["--image", text(&image)?, "--key", text(&stranger)?, "--out", bad_path]);
    std::fs::remove_file(&bad_file)?;
    world.cli(&create).await?;
    says(&world.try_cli(&["bundle", "verify", bad_path]).await?, REFUSED_INPUT, "unknown key")?;
    says(&world.try_cli(&["bundle", "upload", bad_path]).await?, REFUSED_INPUT, "key")?;

    world.cli(&["bundle", "verify", path]).await?;
    let uploaded = world.one(&["bundle", "upload", path]).await?;
    let again = world.one(&["bundle", "upload", path]).await?;
    ensure!(name(&uploaded)? == name(&again)?, "the same bundle twice");
    ensure!(world.json(&["bundle", "list"]).await?.len() == 1);
    world.cli(&["bundle", "delete", &name(&uploaded)?]).await?;
    says(&world.try_cli(&["bundle", "show", &name(&uploaded)?]).await?, NO_SUCH_THING, "")?;
    Ok(())
}

#[tokio::test]
async fn each_kind_of_failure_has_its_exit_code_and_its_advice() -> Result<()> {
    let world = World::start().await?;
    let nobody = format!("dv{}", "0".repeat(32));
    says(&world.try_cli(&["device", "show", &nobody]).await?, NO_SUCH_THING, "tenant of this context")?;
    says(&world.try_cli(&["device", "show", "nonsense"]).await?, REFUSED_INPUT, "name")?;
    let caret = "\n  board=a AND größe=1\n              ^\n";
    let wrong = ["device", "list", "--filter", "board=a AND größe=1"];
    says(&world.try_cli(&wrong).await?, REFUSED_INPUT, caret)?;
    says(
        &world.try_cli(&["device", "watch", "--filter", "board"]).await?,
        REFUSED_INPUT,
        "\n  board\n       ^\n",
    )?;
    says(&world.try_cli(&["frobnicate"]).await?, USAGE, "Usage")?;
    says(&world.try_cli(&["device", "list", "--context", "none"]).await?, 1, "context list")?;

    let json = world.try_cli(&["device", "show", &nobody, "--json"]).await?;
    let error: Value = serde_json::from_str(json.stderr.trim())?;
    ensure!(json.stdout.is_empty() && error["error"]["exit_code"] == NO_SUCH_THING, "{json:?}");

    // A key with the role of a viewer reads and does not write.
    let viewer = world.path("viewer.pem");
    let public = world.one(&["key", "generate", text(&viewer)?]).await?;
    let public = public["public_key"].as_str().context("no public key")?.to_owned();
    let key = name(&world.one(&["key", "create", "Vi", "--role", "viewer", "--public", &public]).await?)?;
    let shown = world.one(&["context", "show"]).await?;
    let field = |key: &str| shown[key].as_str().unwrap_or_default().to_owned();
    let (registry, ota, logs, ca) = (field("registry"), field("ota"), field("logs"), field("ca"));
    let mut add = vec!["context", "add", "viewer", "--registry", &registry, "--ota", &ota, "--logs", &logs];
    add.extend(["--ca", &ca, "--key", &key, "--key-file", text(&viewer)?]);
    world.cli(&add).await?;
    world.cli(&["device", "list", "--context", "viewer"]).await?;
    let out = world.path("viewer-claim");
    let claim = ["claim", "create", "--devices", "1", "--out", text(&out)?, "--context", "viewer"];
    says(&world.try_cli(&claim).await?, NOT_ALLOWED, "role")?;
    world.cli(&["key", "delete", &key]).await?;
    says(&world.try_cli(&["device", "list", "--context", "viewer"]).await?, NOT_ALLOWED, "sign in")?;

    world.stack.stop(dev::Service::Registry).await?;
    says(&world.try_cli(&["device", "list"]).await?, UNREACHABLE, "cannot reach")?;
    Ok(())
}

#[tokio::test]
async fn an_upload_killed_under_way_goes_on_where_it_stopped() -> Result<()> {
    let world = World::start().await?;
    let image: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(3_000_000)
        .collect();
    let file = world.bundle_file(&image, "1.0.0", 1, &[]).await?;
    let mut upload = world.command(&["bundle", "upload", text(&file)?])?.stderr(Stdio::null()).spawn()?;
    // Killed as soon as the server holds a part of it.
    let part = async {
        loop {
            let held = world.stack.sql("SELECT coalesce(max(committed), 0) FROM ota.upload_layers")?;
            if held.trim().parse::<i64>().unwrap_or(0) > 0 {
                return Ok::<_, anyhow::Error>(());
            }
        }
    };
    tokio::time::timeout(scenarios::world::PATIENCE, part).await.context("nothing arrives")??;
    upload.kill().await?;
    let bundle = world.one(&["bundle", "upload", text(&file)?]).await?;
    ensure!(bundle["size"] == 3_000_000, "{bundle}");
    Ok(())
}

#[tokio::test]
async fn labels_filters_and_the_watch_agree() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 2).await?;
    let mut watch = world.command(&["device", "watch"])?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no stdout")?).lines();
    let _boards = world.board(&provision, "boards", &["--count", "2"])?;
    let devices = world.devices(2, |_| true).await?;
    world.cli(&["device", "label", &devices[0], "site=berlin", "ring=canary"]).await?;
    let found = world.json(&["device", "list", "--filter", "labels.site=berlin AND board=host"]).await?;
    ensure!(found.len() == 1 && name(&found[0])? == devices[0], "{found:?}");
    world.cli(&["device", "label", &devices[0], "ring-"]).await?;
    ensure!(world.json(&["device", "list", "--filter", "labels.ring=canary"]).await?.is_empty());

    // Several at once, in the order they are named; all or none.
    let both = [devices[1].as_str(), devices[0].as_str()];
    let labelled = world.json(&["device", "label", both[0], both[1], "ring=beta", "floor=1"]).await?;
    ensure!(labelled.len() == 2 && name(&labelled[0])? == both[0], "{labelled:?}");
    let shown = world.json(&["device", "show", both[0], both[1]]).await?;
    ensure!(shown[0]["labels"]["ring"] == "beta" && shown[1]["labels"]["site"] == "berlin", "{shown:?}");
    let nobody = format!("dv{}", "0".repeat(32));
    says(&world.try_cli(&["device", "label", both[0], &nobody, "ring=x"]).await?, NO_SUCH_THING, &nobody)?;
    says(&world.try_cli(&["device", "label", both[0], "ring=x", both[1]]).await?, REFUSED_INPUT, both[1])?;
    says(&world.try_cli(&["device", "delete", both[0], both[1]]).await?, REFUSED_INPUT, both[0])?;
    ensure!(world.json(&["device", "list", "--filter", "labels.ring=beta"]).await?.len() == 2);
    let seen = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("site=berlin") {
                return Ok(());
            }
        }
        anyhow::bail!("the watch ended")
    };
    tokio::time::timeout(scenarios::world::PATIENCE, seen).await.context("the watch missed the label")?
}

#[tokio::test]
async fn debugging_is_forbidden_and_allowed_by_device_label_and_tenant() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let devices = world.devices(1, |_| true).await?;
    let device = devices[0].as_str();
    world.cli(&["device", "label", device, "ring=production"]).await?;
    for scope in [&["--tenant"][..], &["--label", "ring=production"], &[device]] {
        world.cli(&[&["debugging", "forbid"], scope].concat()).await?;
    }
    let shown = world.cli(&["device", "show", device]).await?;
    let id = device.rsplit('/').next().unwrap_or_default();
    let named = format!("forbidden by tenant, label ring=production, device {id}");
    ensure!(shown.contains(&named), "{shown}");
    ensure!(world.cli(&["tenant", "show"]).await?.contains("debugging     forbidden"));
    let listed = world.json(&["debugging", "list"]).await?;
    ensure!(listed.len() == 3 && listed[0]["scope"]["tenant"] == true, "{listed:?}");
    world.cli(&["debugging", "allow", device, "--tenant", "--label", "ring=production"]).await?;
    ensure!(world.json(&["debugging", "list"]).await?.is_empty());
    ensure!(!world.cli(&["device", "show", device]).await?.contains("forbidden"));
    says(&world.try_cli(&["debugging", "forbid"]).await?, USAGE, "required")?;
    says(&world.try_cli(&["debugging", "allow", "--label", "ring"]).await?, USAGE, "KEY=VALUE")
}

#[tokio::test]
async fn a_second_root_key_signs_the_next_keyset_and_devices_take_it_up() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let board = world.board(&provision, "board", &[])?;
    world.devices(1, |device| device["keyset_version"] == 1).await?;
    let (root, release) = (world.path("keys/root.pem"), world.path("keys/release.pem"));
    let second = world.path("keys/second.pem");
    world.cli(&["key", "generate", text(&second)?]).await?;
    let (payload, signature, keyset) =
        (world.path("next.payload"), world.path("next.sig"), world.path("next.keyset"));
    let mut create = vec!["keyset", "create", "--root", text(&root)?, "--root", text(&second)?];
    create.extend(["--threshold", "2", "--release", text(&release)?, "--out", text(&payload)?]);
    world.cli(&create).await?;

    // Signed by the new key alone, it is nobody's.
    let sign = |key, out| ["keyset", "sign", text(&payload).unwrap_or_default(), "--key", key, "--out", out];
    let wrong = world.path("wrong.sig");
    world.cli(&sign(text(&second)?, text(&wrong)?)).await?;
    let wrong_keyset = world.path("wrong.keyset");
    let assemble = |signature, out| {
        ["keyset", "assemble", text(&payload).unwrap_or_default(), "--signature", signature, "--out", out]
    };
    world.cli(&assemble(text(&wrong)?, text(&wrong_keyset)?)).await?;
    says(&world.try_cli(&["keyset", "upload", text(&wrong_keyset)?]).await?, REFUSED_INPUT, "root keys")?;

    world.cli(&sign(text(&root)?, text(&signature)?)).await?;
    world.cli(&assemble(text(&signature)?, text(&keyset)?)).await?;
    world.cli(&["keyset", "upload", text(&keyset)?]).await?;
    // Publishing it again changes nothing; the one before it is not the next any more.
    world.cli(&["keyset", "upload", text(&keyset)?]).await?;
    ensure!(world.json(&["keyset", "list"]).await?.len() == 2);
    // Devices take it up at their next hello.
    board.cut_power().await?;
    let _board = world.board(&provision, "board", &[])?;
    world.devices(1, |device| device["keyset_version"] == 2).await?;
    Ok(())
}

/// The program of the symboliser's own tests: an ELF file, and the report of where it ended.
fn crashed(file: &str) -> std::path::PathBuf {
    dev::root().join("cli/fixtures/crash").join(file)
}

#[tokio::test]
async fn a_crash_is_shown_with_the_lines_of_the_elf_file_its_bundle_was_made_from() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |_| true).await?.remove(0);
    let script = "#!holdfast-script\nhealthy\nwork 500\ncrash\n";
    let bundle = world.bundle(script, "1.0.0", 1, &["--stable", "0s"]).await?;
    world.one(&["deploy", &device, &bundle, "--no-wait"]).await?;
    let crash = name(&world.first_crash(&device).await?)?;
    let shown = world.one(&["crash", "show", &crash]).await?;
    ensure!(shown["crash"]["kind"] == "other" && shown["crash"]["version"] == "1.0.0", "{shown}");
    let why = shown["no_symbols_because"].as_str().unwrap_or_default();
    ensure!(why.contains("--elf FILE"), "a script has no ELF file: {shown}");

    // A bundle made from an ELF file is uploaded with it, and with no other.
    let (elf, hfb, key) = (crashed("crash.elf"), world.path("elf.hfb"), world.path("keys/release.pem"));
    let mut create = vec!["bundle", "create", "--board", "host", "--version", "2.0.0", "--counter", "2"];
    create.extend(["--image", text(&elf)?, "--key", text(&key)?, "--out", text(&hfb)?]);
    world.cli(&create).await?;
    let beside = world.path("elf.hfb.elf");
    ensure!(std::fs::read(&beside)? == std::fs::read(&elf)?, "not beside the bundle");
    let (other, mut bytes) = (world.path("other.elf"), std::fs::read(&elf)?);
    bytes[0x1044] ^= 1;
    std::fs::write(&other, &bytes)?;
    let wrong = ["bundle", "upload", text(&hfb)?, "--symbols", text(&other)?];
    says(&world.try_cli(&wrong).await?, REFUSED_INPUT, "loads something else")?;
    let manifest = world.one(&["bundle", "upload", text(&hfb)?]).await?["manifest_digest"].clone();
    let manifest = manifest.as_str().context("no digest")?;

    // What a board with registers would have sent of it.
    let report: Value = serde_json::from_str(&std::fs::read_to_string(crashed("crash.json"))?)?;
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let order: Vec<String> =
        (0..13).map(|n| format!("r{n}")).chain(["sp", "lr", "pc", "xpsr"].map(str::to_owned)).collect();
    let registers: Vec<u8> =
        order.iter().flat_map(|name| number(&report["registers"][name]).to_le_bytes()).collect();
    world.stack.sql(&format!(
        "UPDATE logs.crashes SET manifest_digest = '\\x{manifest}', registers = '\\x{}', registers_known = 131071, \
         fault_status = ARRAY[{}, {}, 0, 0, {}, 0, {}], stack_at = {}, stack = decode('{}', 'base64')",
        hex::encode(registers),
        report["cfsr"],
        report["hfsr"],
        report["bfar"],
        report["exc_return"],
        report["stack_at"],
        report["stack"].as_str().unwrap_or_default(),
    ))?;
    let listed = world.json(&["crash", "list", "--manifest", manifest]).await?;
    ensure!(!listed.is_empty() && listed[0]["registers"]["pc"] == report["registers"]["pc"], "{listed:?}");
    // Fetched, from the cache, and from the cache when that is damaged.
    for cached in [None, Some(false), Some(true)] {
        if cached == Some(true) {
            let file = std::fs::read_dir(world.path("cache/symbols"))?.next().context("no cache")??.path();
            std::fs::write(file, b"damaged")?;
        }
        let shown = world.one(&["crash", "show", &crash]).await?;
        let first = &shown["backtrace"][0]["places"];
        ensure!(first[0]["function"] == "write_register" && first[0]["line"] == 26, "{shown}");
        ensure!(first[2]["function"] == "start_conversion" && first[2]["inlined"] == false, "{shown}");
        ensure!(shown["backtrace"][3]["guessed"] == true && shown["no_symbols_because"].is_null(), "{shown}");
    }
    let told = world.cli(&["crash", "show", &crash]).await?;
    for words in
        ["(PRECISERR)", "BusFault: the address was 0x6000000c", "write_register at /app/crash.c:26 (inlined)"]
    {
        ensure!(told.contains(words), "`{words}` is not in: {told}");
    }
    // Its name as people see it.
    let listed = world.cli(&["crash", "list"]).await?;
    let id = crash.rsplit('/').next().context("no id")?;
    let short = listed.split_whitespace().find(|word| word.ends_with(id)).context("not in the list")?;
    let by_hand = ["crash", "show", short, "--elf", text(&elf)?];
    ensure!(world.cli(&by_hand).await?.contains("poll_sensor at /app/crash.c:43"));
    let source = crashed("crash.c");
    let no_elf = ["crash", "show", short, "--elf", text(&source)?];
    says(&world.try_cli(&no_elf).await?, REFUSED_INPUT, "ELF")?;
    ensure!(world.json(&["telemetry", "list", &device]).await?.is_empty(), "a script publishes nothing");
    Ok(())
}

#[tokio::test]
async fn completion_help_and_tokens_serve_other_tools() -> Result<()> {
    let world = World::start().await?;
    for shell in ["bash", "zsh", "fish"] {
        ensure!(world.cli(&["completion", shell]).await?.contains("holdfast"));
    }
    for command in ["bundle", "claim", "crash", "deploy", "device", "key", "keyset", "logs", "telemetry"] {
        let help = world.cli(&[command, "--help"]).await?;
        ensure!(help.contains("Usage"), "{help}");
    }
    let token = world.cli(&["token"]).await?;
    ensure!(token.trim().split('.').count() == 3, "not a JWT");
    Ok(())
}

#[tokio::test]
async fn a_watch_goes_on_by_itself_when_the_server_was_away() -> Result<()> {
    let world = World::start().await?;
    let mut watch = world.command(&["device", "watch", "--json"])?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no stdout")?).lines();
    let mut next = async || {
        let line = tokio::time::timeout(scenarios::world::PATIENCE, lines.next_line()).await??;
        let event: Value = serde_json::from_str(&line.context("the watch ended")?)?;
        let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        anyhow::Ok((field(&event["kind"]), field(&event["device"]["name"])))
    };
    ensure!(next().await?.0 == "KIND_SYNCED");
    let provision = world.provision("claim", 2).await?;
    let mut one = world.board(&provision, "one", &[])?;
    let named = loop {
        let (kind, name) = next().await?;
        ensure!(kind == "KIND_CHANGED", "{kind}");
        if !name.is_empty() {
            break name;
        }
    };
    one.event("connected", 1).await?;
    one.cut_power().await?;
    for killed in [true, false] {
        match killed {
            true => world.stack.kill(dev::Service::Registry).await?,
            false => world.stack.stop(dev::Service::Registry).await?,
        }
        // It happens while nobody can be told.
        let site = format!("site-{killed}");
        let id = named.rsplit('/').next().unwrap_or_default();
        world.stack.sql(&format!(
            "UPDATE registry.devices SET labels = '{{\"site\": \"{site}\"}}' WHERE device_id = '{id}';
             INSERT INTO registry.changes (tenant_id, device, kind)
             SELECT tenant_id, device_id, 'labels' FROM registry.devices WHERE device_id = '{id}'"
        ))?;
        world.stack.start_service(dev::Service::Registry).await?;
        let mut kinds = Vec::new();
        loop {
            let (kind, _) = next().await?;
            kinds.push(kind.clone());
            if kind == "KIND_SYNCED" {
                break;
            }
        }
        ensure!(kinds.iter().all(|kind| kind != "KIND_SNAPSHOT" && kind != "KIND_RESET"), "{kinds:?}");
        ensure!(kinds.iter().any(|kind| kind == "KIND_CHANGED"), "{kinds:?}");
    }
    Ok(())
}
