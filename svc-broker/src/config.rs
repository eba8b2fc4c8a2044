//! Configuration: three MQTT listeners and every bound. Everything else is kit's.

use std::net::SocketAddr;

use kit::config::{Common, Config as Read, Source, Wrong};
use kit::tls::Tls;

use crate::model::limits::Bounds;

#[derive(Debug)]
pub struct Config {
    pub common: Common,
    /// `DEVICE_LISTEN`, `ENROLL_LISTEN`, `SERVICE_LISTEN`; port 0 chooses.
    pub device_listen: SocketAddr,
    pub enroll_listen: SocketAddr,
    pub service_listen: SocketAddr,
    /// `REGISTRY_URL`.
    pub registry_url: String,
    /// Every bound by its name in capitals, as `CONNECTIONS_MAX` (docs/brokers.md).
    pub(crate) bounds: Bounds,
}

impl Read for Config {
    fn read(from: &mut Source) -> Option<Self> {
        let common = Common::read(from);
        let device_listen = from.required("device_listen");
        let enroll_listen = from.required("enroll_listen");
        let service_listen = from.required("service_listen");
        let registry_url = from.required("registry_url");
        let bounds = bounds(from);
        Some(Self {
            common: common?,
            device_listen: device_listen?,
            enroll_listen: enroll_listen?,
            service_listen: service_listen?,
            registry_url: registry_url?,
            bounds: bounds?,
        })
    }

    fn verify(&self, tls: &Tls, wrong: &mut Wrong) {
        self.common.verify(tls, wrong);
        wrong.note("registry_url", tls.channel(&self.registry_url));
    }
}

fn bounds(from: &mut Source) -> Option<Bounds> {
    let mut bounds = Bounds::default();
    let mut wrong = false;
    for (name, least, bound) in bounds.named() {
        match from.or(&name, *bound) {
            Some(value) if value >= least => *bound = value,
            Some(_) => {
                wrong = true;
                from.problem(&name, &format!("must be at least {least}"));
            }
            None => wrong = true,
        }
    }
    (!wrong).then_some(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_configured_by_its_name_and_refused_below_its_least() {
        let names: Vec<(String, usize)> =
            Bounds::default().named().into_iter().map(|(name, least, _)| (name, least)).collect();
        assert_eq!(names.len(), 15 + 3 * 7);
        for (name, least) in names {
            let variable = format!("HOLDFAST_{}", name.to_uppercase());
            let read =
                |value: usize| kit::config::load_from::<Probe>([(variable.clone(), value.to_string())]);
            let mut taken = read(least).expect("the least is taken").0;
            let (.., bound) =
                taken.named().into_iter().find(|(held, ..)| *held == name).expect("it is there");
            assert_eq!(*bound, least, "{name}");
            let refused = read(least - 1).err().expect("less is refused").to_string();
            assert!(refused.contains(&variable), "{refused}");
        }
    }

    /// The bounds alone.
    struct Probe(Bounds);

    impl Read for Probe {
        fn read(from: &mut Source) -> Option<Self> {
            bounds(from).map(Probe)
        }
    }
}
