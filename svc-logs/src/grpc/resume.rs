//! Tokens that tails go on from. They tell only of the device they are of, and carry no authority: every query is scoped to its tenant.

use kit::{page, status};
use proto::name::DeviceName;
use tonic::Status;

use crate::model::Boot;
use crate::model::progress::{BOOTS_MAX, Progress, Told, Within};

/// Longest token that is looked at.
pub(super) const RESUME_TOKEN_BYTES_MAX: usize = 8192;

/// What tokens of one tail are good for.
#[derive(Debug, Clone)]
pub(super) struct Of {
    pub(super) name: DeviceName,
    /// As the caller wrote it.
    pub(super) level: String,
}

/// Counter and random part.
type WrittenBoot = (u32, u64);
/// Version and prefix.
type WrittenTold = (i64, i64);
type Written = (
    Vec<(WrittenBoot, WrittenTold)>,
    bool,
    Option<(WrittenBoot, u64)>,
    Option<(WrittenBoot, WrittenTold, u64)>,
);

impl Of {
    /// None: the empty token.
    pub(super) fn read(&self, token: &str) -> Result<Option<Progress>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let name = self.name.to_string();
        let written: Option<Written> = page::read(&self.request(&name), token, RESUME_TOKEN_BYTES_MAX);
        written
            .filter(|written| written.0.len() <= BOOTS_MAX)
            .map(|written| Some(progress(written)))
            .ok_or_else(|| {
                status::invalid(
                    "resume_token",
                    "is not of a tail with this parent and level; start without one",
                )
            })
    }

    pub(super) fn token(&self, progress: &Progress) -> String {
        let boots =
            progress.boots.iter().map(|(boot, told)| (write(*boot), (told.version, told.stored_up_to)));
        let (first, of_boot) = match progress.within {
            Within::End => (None, None),
            Within::First(boot, sequence) => (Some((write(boot), sequence)), None),
            Within::Boot(boot, told, sequence) => {
                (None, Some((write(boot), (told.version, told.stored_up_to), sequence)))
            }
        };
        let written: Written = (boots.collect(), progress.cut, first, of_boot);
        let name = self.name.to_string();
        page::token(&self.request(&name), &written)
    }

    fn request<'a>(&'a self, name: &'a str) -> [&'a str; 3] {
        ["tail-records", name, &self.level]
    }
}

fn progress((boots, cut, first, of_boot): Written) -> Progress {
    let within = match (first, of_boot) {
        (Some((boot, sequence)), _) => Within::First(read(boot), sequence),
        (None, Some((boot, told, sequence))) => Within::Boot(read(boot), told_of(told), sequence),
        (None, None) => Within::End,
    };
    let boots = boots.into_iter().map(|(boot, told)| (read(boot), told_of(told))).collect();
    Progress { boots, cut, within }
}

fn told_of((version, stored_up_to): WrittenTold) -> Told {
    Told { version, stored_up_to }
}

fn read((counter, random): WrittenBoot) -> Boot {
    Boot { counter, random }
}

fn write(boot: Boot) -> WrittenBoot {
    (boot.counter, boot.random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(level: &str) -> Of {
        let name = format!("tenants/tn{0}/devices/dv{0}", "0".repeat(32));
        Of { name: name.parse().unwrap(), level: level.into() }
    }

    #[test]
    fn a_token_is_read_for_the_same_device_and_level_only() {
        let boot = Boot { counter: u32::MAX, random: u64::MAX };
        let told = Told { version: i64::MAX, stored_up_to: i64::MAX };
        for within in [Within::End, Within::First(boot, 7), Within::Boot(boot, told, u64::MAX)] {
            let progress = Progress::new(vec![(boot, told); BOOTS_MAX + 1], within);
            let token = of("warn").token(&progress);
            assert!(token.len() <= RESUME_TOKEN_BYTES_MAX, "{}", token.len());
            assert_eq!(of("warn").read(&token).unwrap(), Some(progress));
            for refused in [of("").read(&token), of("warn").read(&token[1..]), of("warn").read("\u{1b}")] {
                assert!(refused.unwrap_err().message().starts_with("resume_token"));
            }
        }
        assert_eq!(of("").read("").unwrap(), None);
    }
}
