//! The ten methods a fleet's tools and brokers call most, each with as many callers at once as the empty service beside them.

use std::time::Duration;

use anyhow::{Context, Result};
use dev::Service;
use prost::Message;
use proto::auth::v1::Access;
use proto::logs::v1::ListRecordsRequest;
use proto::ota::v1::{
    CreateDeploymentRequest, GetBundleRequest, GetDeploymentRequest, ListDeploymentsRequest,
};
use proto::registry::v1::{
    AuthorizeConnectionRequest, GetDeviceRequest, GetJwksRequest, GetKeysetRequest, ListDevicesRequest,
    Listener,
};
use tonic::transport::Channel;

use super::FIGURES;
use super::empty::{self, Empty};
use super::load::{self, Answered, Call};
use crate::client;
use crate::world::{World, name};

/// What the device of the measurement runs.
const SCRIPT: &str = "#!holdfast-script\nlog hello\nhealthy\nwork 1000\nrepeat\n";
/// Connections that share the callers.
const CONNECTIONS: usize = 2;

/// How hard, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub callers: usize,
    pub time: Duration,
    /// Of each, taken in turn; the median counts.
    pub runs: usize,
}

/// A method of ours and how to reach it.
struct Method {
    metric: &'static str,
    channels: Vec<Channel>,
    call: Call,
    runs: Vec<Answered>,
}

pub async fn measure(world: &World, effort: Effort) -> Result<()> {
    let mut methods = methods(world, effort.callers).await?;
    let empty = Empty::start(world).await?;
    let mut peers = Vec::new();
    for _ in 0..CONNECTIONS {
        peers.push(client::channel_to(&world.stack, &empty.url).await?);
    }
    let mut peer = Vec::new();
    for _ in 0..effort.runs {
        peer.push(load::run(&peers, &Empty::call(), effort.callers, effort.time).await?);
        for method in &mut methods {
            method.runs.push(load::run(&method.channels, &method.call, effort.callers, effort.time).await?);
        }
    }
    let peer = load::median(&peer)?;
    FIGURES.alone("empty_p99_ms", "ms", peer.p99_ms);
    for method in &methods {
        let ours = load::median(&method.runs)?;
        let metric = |what: &str| format!("{}_{what}", method.metric);
        FIGURES.beside(&metric("vs_empty"), "calls/s", ours.per_s, peer.per_s, empty::NAME);
        FIGURES.alone(&metric("p99_ms"), "ms", ours.p99_ms);
    }
    Ok(())
}

/// Devices that enrolled, of which one took a bundle and said something; their boards are off while calls are counted.
async fn methods(world: &World, devices: usize) -> Result<Vec<Method>> {
    let provision = world.provision("calls", devices).await?;
    let board = world.board(&provision, "calls-boards", &["--count", &devices.to_string()])?;
    let devices = world.devices(devices, |device| device["keyset_version"] == 1).await?;
    let device = devices.first().context("no device")?.clone();
    let bundle = world.bundle(SCRIPT, "1.0.0", 1, &["--trial", "5s", "--stable", "0s"]).await?;
    let deployment = name(&world.one(&["deploy", &device, &bundle, "--no-wait"]).await?)?;
    world.ended(&deployment).await?;
    board.cut_power().await?;
    let (parent, id) = device.split_once("/devices/").context("a device's name")?;
    let (parent, id) = (parent.to_owned(), id.to_owned());

    let digest = vec![0; 32];
    let connection = AuthorizeConnectionRequest {
        listener: Listener::Device.into(),
        common_name: id,
        public_key_digest: digest.clone(),
        issuer_key_digest: digest.clone(),
        certificate_digest: digest,
    };
    let list = ListDevicesRequest { parent: parent.clone(), ..Default::default() };
    let deployments = ListDeploymentsRequest { parent: parent.clone(), ..Default::default() };
    let records = ListRecordsRequest { parent: device.clone(), ..Default::default() };
    let keyset = GetKeysetRequest { name: format!("{parent}/keysets/1") };
    let create = |device: &String| CreateDeploymentRequest {
        parent: parent.clone(),
        device: device.clone(),
        bundle: bundle.clone(),
        ..Default::default()
    };
    let create: Vec<_> = devices.iter().map(create).collect();
    let mut methods =
        Methods { world, token: world.cli(&["token"]).await?.trim().to_owned(), all: Vec::new() };
    let registry = Service::Registry;
    methods.add("getdevice", registry, GET_DEVICE, &[GetDeviceRequest { name: device }]).await?;
    methods.add("listdevices", registry, LIST_DEVICES, &[list]).await?;
    methods.add("getkeyset", registry, GET_KEYSET, &[keyset]).await?;
    methods.add("getjwks", registry, GET_JWKS, &[GetJwksRequest {}]).await?;
    methods.add("authorizeconnection", registry, AUTHORIZE_CONNECTION, &[connection]).await?;
    methods.add("getbundle", Service::Ota, GET_BUNDLE, &[GetBundleRequest { name: bundle.clone() }]).await?;
    let get = GetDeploymentRequest { name: deployment };
    methods.add("getdeployment", Service::Ota, GET_DEPLOYMENT, &[get]).await?;
    methods.add("listdeployments", Service::Ota, LIST_DEPLOYMENTS, &[deployments]).await?;
    methods.add("createdeployment", Service::Ota, CREATE_DEPLOYMENT, &create).await?;
    methods.add("listrecords", Service::Logs, LIST_RECORDS, &[records]).await?;
    Ok(methods.all)
}

const GET_DEVICE: &str = "/holdfast.registry.v1.DeviceService/GetDevice";
const LIST_DEVICES: &str = "/holdfast.registry.v1.DeviceService/ListDevices";
const GET_KEYSET: &str = "/holdfast.registry.v1.KeysetService/GetKeyset";
const GET_JWKS: &str = "/holdfast.registry.v1.TokenService/GetJwks";
const AUTHORIZE_CONNECTION: &str = "/holdfast.registry.v1.AuthorityService/AuthorizeConnection";
const GET_BUNDLE: &str = "/holdfast.ota.v1.BundleService/GetBundle";
const GET_DEPLOYMENT: &str = "/holdfast.ota.v1.DeploymentService/GetDeployment";
const LIST_DEPLOYMENTS: &str = "/holdfast.ota.v1.DeploymentService/ListDeployments";
const CREATE_DEPLOYMENT: &str = "/holdfast.ota.v1.DeploymentService/CreateDeployment";
const LIST_RECORDS: &str = "/holdfast.logs.v1.LogService/ListRecords";

struct Methods<'a> {
    world: &'a World,
    token: String,
    all: Vec<Method>,
}

impl Methods<'_> {
    /// With what the method asks for: the administrator's token, or svc-broker's certificate.
    async fn add(
        &mut self,
        metric: &'static str,
        service: Service,
        path: &'static str,
        messages: &[impl Message],
    ) -> Result<()> {
        let access = proto::method(path).with_context(|| format!("no method {path}"))?.access;
        let stack = &self.world.stack;
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(match access {
                Access::Service => client::service_channel(stack, service, "svc-broker").await?,
                _ => client::channel(stack, service).await?,
            });
        }
        let token = (!matches!(access, Access::Service | Access::Public)).then(|| self.token.clone());
        let call = Call { path, messages: messages.iter().map(Message::encode_to_vec).collect(), token };
        self.all.push(Method { metric, channels, call, runs: Vec::new() });
        Ok(())
    }
}
