//! The CA of the broker's certificate is changed while devices believe both.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dev::Service;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::world::{World, text};
use crate::{becomes, board_online, is_online};

#[tokio::test]
async fn a_device_with_two_anchors_takes_a_broker_certificate_of_either_ca() -> Result<()> {
    let world = World::start().await?;
    let (board, device) = board_online(&world, "board", "serial-1").await?;
    let (old_ca, new_ca) = (world.stack.server_ca_file(), world.path("new-ca.pem"));
    let first = world.path("first-ca.pem");
    std::fs::copy(&old_ca, &first)?;
    let authority = authority(&new_ca)?;
    publish_both(&world, &first, &new_ca).await?;
    board.cut_power().await?;
    let (mut board, _) = board_online(&world, "board", "serial-1").await?;
    becomes(&world, &device, |d| d["keyset_version"] == 2).await?;

    // Services believe both as well; then the broker comes back under the new one.
    let both = std::fs::read_to_string(&old_ca)? + &std::fs::read_to_string(&new_ca)?;
    std::fs::write(&old_ca, both)?;
    world.stack.stop(Service::Broker).await?;
    let environment = world.stack.environment(Service::Broker);
    let file = |key: &str| {
        environment.iter().find(|(name, _)| name == key).map(|(_, path)| path).context("no such key")
    };
    let key = KeyPair::generate()?;
    std::fs::write(file("HOLDFAST_TLS_CERT")?, server(&key, &authority)?)?;
    std::fs::write(file("HOLDFAST_TLS_KEY")?, key.serialize_pem())?;
    board.event("disconnected", 1).await?;
    let connected = board.said().iter().filter(|event| event["event"] == "connected").count();
    world.stack.restart(Service::Registry).await?;
    world.stack.start_service(Service::Broker).await?;
    for service in [Service::Ota, Service::Logs, Service::DebugRelay] {
        world.stack.restart(service).await?;
    }
    board.event("connected", connected + 1).await?;
    let shown = becomes(&world, &device, is_online).await?;
    ensure!(shown["keyset_version"] == 2, "{shown}");
    Ok(())
}

async fn publish_both(world: &World, old: &Path, new: &Path) -> Result<()> {
    let [root, release, payload, signature, keyset] =
        ["keys/root.pem", "keys/release.pem", "next.payload", "next.sig", "next.keyset"]
            .map(|name| world.path(name));
    let (root, payload, signature, keyset) =
        (text(&root)?, text(&payload)?, text(&signature)?, text(&keyset)?);
    let mut create = vec!["keyset", "create", "--root", root, "--release", text(&release)?, "--out", payload];
    create.extend(["--broker-ca", text(old)?, "--broker-ca", text(new)?]);
    world.cli(&create).await?;
    world.cli(&["keyset", "sign", payload, "--key", root, "--out", signature]).await?;
    world.cli(&["keyset", "assemble", payload, "--signature", signature, "--out", keyset]).await?;
    world.cli(&["keyset", "upload", keyset]).await.map(drop)
}

/// A CA for servers, its certificate written there.
fn authority(file: &Path) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the next servers");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    std::fs::write(file, params.self_signed(&key)?.pem())?;
    Ok(Issuer::new(params, key))
}

fn server(key: &KeyPair, by: &Issuer<'static, KeyPair>) -> Result<String> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params.signed_by(key, by)?.pem())
}
