//! One update is one trace, from the command line through the services and the broker to the device and back.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use dev::{Options, Service};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use scenarios::world::{PATIENCE, World, text};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const GOOD: &str = "#!holdfast-script\nhealthy\nwork 200\nrepeat\n";
/// What somebody who is traced himself hands down (W3C Trace Context).
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A span as the collector got it: who sent it, its name, its facts.
#[derive(Clone, Debug)]
struct Seen {
    trace: String,
    service: String,
    name: String,
    facts: BTreeMap<String, String>,
}

/// Takes spans as any OpenTelemetry collector does.
struct Collector(watch::Sender<Vec<Seen>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let of = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]| {
                let text = |value: &Value| match value {
                    Value::StringValue(text) => text.clone(),
                    other => format!("{other:?}"),
                };
                let fact = |it: &opentelemetry_proto::tonic::common::v1::KeyValue| {
                    Some((it.key.clone(), text(it.value.as_ref()?.value.as_ref()?)))
                };
                attributes.iter().filter_map(fact).collect::<BTreeMap<_, _>>()
            };
            let service = of(&resource.resource.unwrap_or_default().attributes).remove("service.name");
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let trace = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
                let facts = of(&span.attributes);
                let service = service.clone().unwrap_or_default();
                self.0.send_modify(|all| all.push(Seen { trace, service, name: span.name, facts }));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

async fn collector() -> Result<(SocketAddr, watch::Receiver<Vec<Seen>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (sender, receiver) = watch::channel(Vec::new());
    let server = Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Ok((address, receiver))
}

#[tokio::test]
async fn one_update_is_one_trace_from_the_command_line_to_the_device_and_back() -> Result<()> {
    let (address, mut spans) = collector().await?;
    let traced = |options: Options, service| {
        options.env(service, "HOLDFAST_OTLP_ENDPOINT", format!("http://{address}"))
    };
    let world = World::start_with(Service::ALL.into_iter().fold(Options::all(), traced)).await?;
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |device| device["presence"] == "PRESENCE_ONLINE").await?.remove(0);
    let file = world.bundle_file(GOOD.as_bytes(), "1.0.0", 1, &["--trial", "4s", "--stable", "0s"]).await?;
    let deployed = world
        .command(&["deploy", &device, text(&file)?])?
        .env("TRACEPARENT", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .output()
        .await?;
    ensure!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));

    let wanted = [
        ("svc-registry", "/holdfast.registry.v1.TokenService/ExchangeToken", "", ""),
        ("svc-ota", "/holdfast.ota.v1.BundleService/FinishUpload", "", ""),
        ("svc-ota", "/holdfast.ota.v1.DeploymentService/CreateDeployment", "", ""),
        ("svc-ota", "directive", "kind", "install"),
        ("svc-broker", "route", "outcome", "Delivered"),
        ("svc-ota", "device report", "state", "ready"),
        ("svc-ota", "directive", "kind", "go"),
        ("svc-ota", "device report", "state", "confirmed"),
    ];
    let missing = |all: &Vec<Seen>| {
        let is = |seen: &Seen, (service, name, key, value): (&str, &str, &str, &str)| {
            let told = key.is_empty() || seen.facts.get(key).is_some_and(|told| told == value);
            seen.trace == TRACE && seen.service == service && seen.name == name && told
        };
        wanted.iter().copied().find(|wanted| !all.iter().any(|seen| is(seen, *wanted)))
    };
    let all = tokio::time::timeout(PATIENCE, spans.wait_for(|all| missing(all).is_none())).await.map(drop);
    let seen = spans.borrow().clone();
    let ours: Vec<&Seen> = seen.iter().filter(|seen| seen.trace == TRACE).collect();
    all.with_context(|| format!("{:?} is not among {ours:#?}", missing(&seen)))?;

    // How the device came in is a trace of its own, which svc-registry's answer is part of.
    let connect =
        seen.iter().find(|seen| seen.name == "connect" && device.ends_with(&seen.facts["common_name"]));
    let connect = connect.context("the device's CONNECT is not traced")?;
    let asked = "/holdfast.registry.v1.AuthorityService/AuthorizeConnection";
    ensure!(seen.iter().any(|seen| seen.name == asked && seen.trace == connect.trace), "{connect:?}");
    Ok(())
}

#[tokio::test]
async fn a_refused_call_is_found_in_the_servers_log_by_what_the_command_line_printed() -> Result<()> {
    let world = World::start().await?;
    let none = "dv00000000000000000000000000000000";
    let refused = world.try_cli(&["device", "show", none]).await?;
    let trace =
        refused.stderr.lines().find_map(|line| line.trim().strip_prefix("trace ")).context("no trace")?;
    let log = std::fs::read_to_string(world.stack.log(Service::Registry))?;
    let line = log.lines().find(|line| line.contains(trace)).context("the log does not have it")?;
    ensure!(line.contains("GetDevice") && line.contains("NotFound"), "{line}");

    // A stranger's idea of a trace is not repeated.
    let odd = world.command(&["device", "show", none])?.env("TRACEPARENT", "x".repeat(80)).output().await?;
    ensure!(String::from_utf8_lossy(&odd.stderr).contains("error: "), "{odd:?}");
    ensure!(!std::fs::read_to_string(world.stack.log(Service::Registry))?.contains("xxxx"));
    Ok(())
}
