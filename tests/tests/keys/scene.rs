//! What every scenario here does: key files, bundles by one key or another, boards that are woken, keysets that are looked at.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use scenarios::world::{Board, Output, World, name, text};
use serde_json::Value;

/// Says it is healthy and goes on.
pub(crate) const GOOD: &str = "#!holdfast-script\nlog it starts\nhealthy\nwork 200\nrepeat\n";
/// A trial of a second.
pub(crate) const QUICK: [&str; 4] = ["--trial", "4s", "--stable", "0s"];
/// `failure.rs` of the command line.
pub(crate) const REFUSED_INPUT: i32 = 6;

pub(crate) fn field<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A key file of the world's `keys` folder; made if there is none.
pub(crate) async fn key(world: &World, file: &str) -> Result<String> {
    let path = world.path("keys").join(file);
    if !path.exists() {
        world.cli(&["key", "generate", text(&path)?]).await?;
    }
    Ok(text(&path)?.to_owned())
}

/// A bundle file that this key signed.
pub(crate) async fn bundle_by(world: &World, key: &str, version: &str, counter: u64) -> Result<PathBuf> {
    let (image, file) = (world.path(&format!("{version}.image")), world.path(&format!("{version}.hfb")));
    std::fs::write(&image, format!("{GOOD}# {version}\n"))?;
    let counter = counter.to_string();
    let mut args = vec!["bundle", "create", "--board", "host", "--version", version, "--counter", &counter];
    args.extend(["--image", text(&image)?, "--key", key, "--out", text(&file)?]);
    args.extend(QUICK);
    world.cli(&args).await?;
    Ok(file)
}

/// Uploads one; gives its resource name.
pub(crate) async fn uploaded(world: &World, key: &str, version: &str, counter: u64) -> Result<String> {
    let file = bundle_by(world, key, version, counter).await?;
    name(&world.one(&["bundle", "upload", text(&file)?]).await?)
}

/// The power fails and comes back: the board says hello.
pub(crate) async fn woken(
    world: &World,
    board: Board,
    provision: &std::path::Path,
    state: &str,
) -> Result<Board> {
    board.cut_power().await?;
    world.board(provision, state, &[])
}

/// Waits until a device says it holds this keyset; gives its resource name.
pub(crate) async fn holds(world: &World, version: u64) -> Result<String> {
    Ok(world.devices(1, |device| device["keyset_version"] == version).await?.remove(0))
}

pub(crate) fn runs(device: &Value, version: &str) -> bool {
    let slots = device.get("slots").and_then(Value::as_array);
    slots.is_some_and(|slots| {
        slots.iter().any(|slot| {
            field(slot, "component") == "app"
                && slot["running"] == true
                && field(slot, "status") == "confirmed"
                && field(slot, "version") == version
        })
    })
}

/// It was refused as input, and its complaint has these words.
pub(crate) fn complains(output: &Output, words: &str) -> Result<()> {
    ensure!(output.code == REFUSED_INPUT && output.stderr.contains(words), "`{words}` is not in {output:?}");
    Ok(())
}

/// The newest keyset, as `keyset show` has it.
pub(crate) async fn newest(world: &World) -> Result<Value> {
    world.one(&["keyset", "show"]).await
}

/// The ids of its root keys.
pub(crate) async fn roots(world: &World) -> Result<Vec<String>> {
    let keyset = newest(world).await?;
    let roots = keyset["root_keys"].as_array().context("no root keys")?;
    Ok(roots.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The notices of keysets that a board took, in its order.
pub(crate) fn taken(board: &Board) -> Vec<String> {
    let said = board.said();
    let notices =
        said.iter().filter(|event| field(event, "event") == "notice").map(|event| field(event, "notice"));
    notices.filter(|notice| notice.starts_with("KeysetAccepted")).map(str::to_owned).collect()
}
