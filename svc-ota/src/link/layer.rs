//! Serves layer windows: a request is the device's credit, and nothing else is sent on `dn/layer`.
//!
//! Always holds: a waiting request holds no layer bytes; bytes on their way are bounded by the link's bulk queue and
//! one chunk a worker; what cannot be served soon is refused with a time to come again, never silently queued.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use kit::mqtt::{Incoming, Link, PublishError};
use kit::{Shutdown, Tasks};
use prost::Message;
use proto::device::v1::{LayerDown, LayerError};
use tokio::sync::{Mutex, mpsc};
use wire::limits::LAYER_CHUNK_BYTES_MAX;
use wire::{Channel, DeviceId, Digest, TopicId};

use super::{decode, down};
use crate::app::{App, layer};
use crate::model::directed::{DirectedLayer, Window, WindowRefusal};

/// Windows that wait to be served.
pub(crate) const WINDOWS_WAITING_MAX: usize = 4096;
/// Windows of one device that wait or are served; one that asks for the same again is not counted twice.
pub(crate) const WINDOWS_OF_DEVICE_MAX: usize = 4;
/// Requests looked at together: what their devices are directed to is read in one go.
const TURN_REQUESTS_MAX: usize = 128;
/// Windows served at once.
const SERVERS: usize = 16;
/// When to ask again what could not be served.
const RETRY_AFTER_MS: u32 = 1000;

/// A window of one device; its place is free again when dropped.
#[derive(Debug)]
struct Claim {
    device: DeviceId,
    window: Window,
    desk: Arc<Desk>,
}

/// A window that is to be served.
#[derive(Debug)]
struct Admitted {
    claim: Claim,
    layer: DirectedLayer,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Desk {
    waiting: Lock<HashMap<DeviceId, Vec<Window>>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Taken,
    /// The same window is on its way.
    Twice,
    TooMany,
}

pub(super) fn start(app: &Arc<App>, link: Link, requests: mpsc::Receiver<Incoming>, tasks: &mut Tasks) {
    let (sender, receiver) = mpsc::channel(WINDOWS_WAITING_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..SERVERS {
        let (app, link, receiver) = (app.clone(), link.clone(), receiver.clone());
        tasks.spawn("layers", serve_all(app, link, receiver, tasks.shutdown()));
    }
    tasks.spawn("layer requests", admit_all(app.clone(), link, requests, sender, tasks.shutdown()));
}

async fn admit_all(
    app: Arc<App>,
    link: Link,
    mut requests: mpsc::Receiver<Incoming>,
    servers: mpsc::Sender<Admitted>,
    shutdown: Shutdown,
) {
    let desk = Arc::new(Desk::default());
    let mut turn = Vec::with_capacity(TURN_REQUESTS_MAX);
    while shutdown.or(requests.recv_many(&mut turn, TURN_REQUESTS_MAX)).await.is_some_and(|count| count > 0) {
        let claims = turn.drain(..).filter_map(|request| desk.claim(&link, &request)).collect();
        let Some(()) = shutdown.or(admit(&app, &link, claims, &servers)).await else { break };
    }
    shutdown.wait().await;
}

/// Hands on what the devices are directed to, and refuses the rest.
async fn admit(app: &App, link: &Link, claims: Vec<Claim>, servers: &mpsc::Sender<Admitted>) {
    let devices = claims.iter().map(|claim| claim.device).collect();
    let directed = match layer::directed(app, &devices, std::time::Instant::now()).await {
        Ok(directed) => directed,
        Err(error) => {
            tracing::warn!(error = kit::status::chain(&error), "directed layers cannot be read");
            for Claim { device, window, .. } in &claims {
                refuse(link, *device, *window, LayerError::Unavailable, "database");
            }
            return;
        }
    };
    for claim in claims {
        let (device, window) = (claim.device, claim.window);
        match directed.get(&device).map_or(Err(WindowRefusal::NotDirected), |it| it.admit(window)) {
            Ok(layer) => {
                if servers.try_send(Admitted { claim, layer: layer.clone() }).is_err() {
                    refuse(link, device, window, LayerError::Unavailable, "overload");
                }
            }
            Err(WindowRefusal::NotDirected) => {
                refuse(link, device, window, LayerError::NotDirected, "not_directed");
            }
            Err(WindowRefusal::Range) => refuse(link, device, window, LayerError::Range, "range"),
        }
    }
}

async fn serve_all(
    app: Arc<App>,
    link: Link,
    windows: Arc<Mutex<mpsc::Receiver<Admitted>>>,
    shutdown: Shutdown,
) {
    loop {
        let next = async { windows.lock().await.recv().await };
        let Some(Some(admitted)) = shutdown.or(next).await else { return shutdown.wait().await };
        if shutdown.or(serve(&app, &link, &admitted)).await.is_none() {
            return;
        }
    }
}

async fn serve(app: &App, link: &Link, Admitted { claim, layer }: &Admitted) {
    let (device, window) = (claim.device, claim.window);
    let topic = down(device, Channel::Layer);
    let (mut offset, end) = (window.offset, window.offset + window.length);
    while offset < end {
        let length = LAYER_CHUNK_BYTES_MAX.min((end - offset) as usize);
        let data = match layer::read(app, layer, u64::from(offset), length).await {
            Ok(data) => data,
            Err(error) => {
                tracing::warn!(%device, error = kit::status::chain(&error), "layer cannot be read");
                let rest = Window { offset, length: end - offset, ..window };
                return refuse(link, device, rest, LayerError::Unavailable, "object_store");
            }
        };
        let bytes = data.len() as u32;
        match link.send(&topic, chunk(window.digest, offset, data)).await {
            Ok(()) => metrics::counter!("ota_layer_bytes_total").increment(u64::from(bytes)),
            // The device comes again; so does the broker.
            Err(PublishError::Disconnected | PublishError::Full | PublishError::TooLong) => {
                return count_refused("unsent");
            }
        }
        offset += bytes;
    }
}

fn chunk(digest: Digest, offset: u32, data: Bytes) -> Bytes {
    encode(&LayerDown { digest: digest.0.to_vec(), offset, data, ..LayerDown::default() })
}

fn refuse(link: &Link, device: DeviceId, window: Window, error: LayerError, reason: &'static str) {
    count_refused(reason);
    let retry_after_ms = if error == LayerError::Unavailable { RETRY_AFTER_MS } else { 0 };
    let message = LayerDown {
        digest: window.digest.0.to_vec(),
        offset: window.offset,
        error: error.into(),
        retry_after_ms,
        ..LayerDown::default()
    };
    // Lost or not: the device asks again by itself.
    let _ = link.publish(&down(device, Channel::Layer), encode(&message));
}

fn encode(message: &LayerDown) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.encoded_len());
    message.encode(&mut bytes).expect("a BytesMut grows");
    bytes.freeze()
}

fn count_refused(reason: &'static str) {
    metrics::counter!("ota_layer_refusals_total", "reason" => reason).increment(1);
}

impl Desk {
    /// The window of a request, unless it cannot be read, waits already, or is one too many.
    fn claim(self: &Arc<Self>, link: &Link, request: &Incoming) -> Option<Claim> {
        let TopicId::Device(device) = request.topic.id else { return None };
        let window = match decode::layer(&request.payload) {
            Ok(window) => window,
            Err(malformed) => {
                malformed.count(device, "layer");
                return None;
            }
        };
        match self.admit(device, window) {
            Admission::Taken => return Some(Claim { device, window, desk: self.clone() }),
            Admission::Twice => count_refused("twice"),
            Admission::TooMany => refuse(link, device, window, LayerError::Unavailable, "windows"),
        }
        None
    }

    fn admit(&self, device: DeviceId, window: Window) -> Admission {
        let mut waiting = self.lock();
        let windows = waiting.entry(device).or_default();
        if windows.contains(&window) {
            return Admission::Twice;
        }
        if windows.len() >= WINDOWS_OF_DEVICE_MAX {
            return Admission::TooMany;
        }
        windows.push(window);
        Admission::Taken
    }

    fn leave(&self, device: DeviceId, window: Window) {
        let mut waiting = self.lock();
        if let Some(windows) = waiting.get_mut(&device) {
            windows.retain(|other| *other != window);
            if windows.is_empty() {
                waiting.remove(&device);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Vec<Window>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.desk.leave(self.device, self.window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId::new([1; 16]);

    fn window(offset: u32) -> Window {
        Window { digest: Digest([1; 32]), offset, length: 10 }
    }

    #[test]
    fn a_device_has_a_bounded_number_of_windows_and_each_once() {
        let desk = Arc::new(Desk::default());
        let mut claims = Vec::new();
        for offset in 0..WINDOWS_OF_DEVICE_MAX as u32 {
            assert_eq!(desk.admit(DEVICE, window(offset)), Admission::Taken);
            claims.push(Claim { device: DEVICE, window: window(offset), desk: desk.clone() });
        }
        assert_eq!(desk.admit(DEVICE, window(0)), Admission::Twice);
        assert_eq!(desk.admit(DEVICE, window(99)), Admission::TooMany);
        assert_eq!(desk.admit(DeviceId::new([2; 16]), window(99)), Admission::Taken);
        claims.pop();
        assert_eq!(desk.admit(DEVICE, window(99)), Admission::Taken);
    }

    #[test]
    fn one_window_too_many_is_not_queued_and_its_place_is_free_again() {
        let desk = Arc::new(Desk::default());
        let (servers, mut waiting) = mpsc::channel(WINDOWS_WAITING_MAX);
        let admitted = |n: usize| {
            let device = DeviceId::new((n as u128).to_be_bytes());
            assert_eq!(desk.admit(device, window(0)), Admission::Taken);
            let layer = DirectedLayer { digest: Digest([1; 32]), bytes: 10, object: "o".into() };
            Admitted { claim: Claim { device, window: window(0), desk: desk.clone() }, layer }
        };
        for n in 0..WINDOWS_WAITING_MAX {
            servers.try_send(admitted(n)).expect("room");
        }
        assert!(servers.try_send(admitted(WINDOWS_WAITING_MAX)).is_err());
        assert_eq!(desk.lock().len(), WINDOWS_WAITING_MAX);
        drop(waiting.try_recv());
        assert!(servers.try_send(admitted(WINDOWS_WAITING_MAX)).is_ok());
    }

    #[test]
    fn nothing_is_remembered_of_a_device_that_waits_for_nothing() {
        let desk = Arc::new(Desk::default());
        assert_eq!(desk.admit(DEVICE, window(0)), Admission::Taken);
        drop(Claim { device: DEVICE, window: window(0), desk: desk.clone() });
        assert!(desk.lock().is_empty());
    }

    #[test]
    fn a_chunk_fits_a_packet() {
        let bytes = chunk(Digest([1; 32]), u32::MAX, Bytes::from(vec![0; LAYER_CHUNK_BYTES_MAX]));
        assert!(bytes.len() + 128 < wire::limits::PACKET_BYTES_MAX);
    }
}
