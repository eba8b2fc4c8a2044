//! The keys a fleet believes: added, revoked, rotated, lost, stolen, and brought back from a backup. Real services, the real
//! command line, real board processes; where somebody does what no program of ours does (a thief, a service gone wrong), the
//! test plays that part and no other.

mod backup;
#[path = "../ota/device.rs"]
#[expect(dead_code, reason = "written for svc-ota's own tests, which use all of it")]
mod device;
mod director;
mod order;
mod played;
mod release;
mod root;
mod scene;
#[path = "../ota/tenant.rs"]
#[expect(dead_code, reason = "written for svc-ota's own tests, which use all of it")]
mod tenant;
mod thief;
