//! svc-ota over its sockets: uploads, bundles, deployments and the device's side of MQTT, against real Postgres, Redis,
//! S3 and broker. Devices are played by the test, so that they can lie.

mod bad;
mod deploy;
mod device;
mod faults;
mod lies;
mod lives;
mod microvisor;
mod once;
mod proxy;
mod symbols;
mod tenant;
mod upload;
mod watch;
