//! `--check-config`: what a service would run with, and all that is wrong with it. Connects to nothing.

use std::fmt;
use std::fs::File;

use super::{Config, FILE_KEY, Origin, PREFIX, Setting, Source, TlsFiles, Wrong};
use crate::telemetry;
use crate::tls::Tls;

/// Keys that are read elsewhere: before the configuration, or by the command line of whoever shares our environment.
const ELSEWHERE: [&str; 4] = ["config", "log", "home", "context"];
/// How many letters a key may be away from one that is meant.
const TYPING_ERRORS_MAX: usize = 3;

/// What was found.
#[derive(Debug)]
pub struct Report {
    pub settings: Vec<Setting>,
    /// The service would not start.
    pub problems: Vec<String>,
    /// It would, but somebody may have meant something else.
    pub warnings: Vec<String>,
}

/// Reads the configuration from these variables as the service would, opens every file it names, and looks for keys nobody reads.
pub fn check<C: Config>(vars: impl IntoIterator<Item = (String, String)>) -> Report {
    let mut source = Source::new(vars);
    let config = C::read(&mut source);
    let settings = std::mem::take(&mut source.asked);
    for setting in &settings {
        if let Some(Err(error)) = setting.file.as_ref().map(File::open) {
            source.problem(
                &setting.key,
                &format!("{} cannot be read: {error}", setting.value.as_deref().unwrap_or("")),
            );
        }
    }
    if source.problems.is_empty()
        && let Some(files) = TlsFiles::read(&mut source)
    {
        match Tls::load(&files) {
            Ok(tls) => {
                let mut wrong = Wrong::default();
                config.iter().for_each(|config| config.verify(&tls, &mut wrong));
                source.problems.extend(wrong.0);
            }
            Err(error) => source.problems.push(format!(
                "{PREFIX}TLS_*, {PREFIX}SERVICE_*, {PREFIX}SERVER_CA: {}",
                crate::status::chain(&error)
            )),
        }
    }
    let mut warnings = Vec::new();
    if let Some(given) = source.values.get("log").filter(|given| !telemetry::is_filter(&given.text)) {
        warnings.push(format!("{PREFIX}LOG: `{}` is no filter, `info` is used", given.text.escape_debug()));
    }
    for (key, given) in &source.values {
        let known = |setting: &Setting| setting.key == *key;
        if settings.iter().any(known) || ELSEWHERE.contains(&key.as_str()) {
            continue;
        }
        let near = settings.iter().map(|setting| &setting.key).min_by_key(|known| distance(key, known));
        let hint = near.filter(|known| distance(key, known) <= TYPING_ERRORS_MAX);
        let hint =
            hint.map(|known| format!("; did you mean {PREFIX}{}?", known.to_uppercase())).unwrap_or_default();
        let text = format!("{PREFIX}{}: nothing reads it{hint}", key.to_uppercase());
        match given.origin {
            // Ours alone, so it is a mistake. The environment is shared: Kubernetes puts names of services there.
            Origin::File => source.problems.push(text),
            Origin::Environment | Origin::Default => warnings.push(text),
        }
    }
    Report { settings, problems: source.problems, warnings }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0) + PREFIX.len();
        for Setting { key, value, origin, .. } in &self.settings {
            let name = format!("{PREFIX}{}", key.to_uppercase());
            let (value, origin) = match (value, origin) {
                (Some(value), Origin::Environment) => (value.as_str(), "environment"),
                (Some(value), Origin::File) => (value.as_str(), "file"),
                (Some(value), Origin::Default) => (value.as_str(), "default"),
                (None, _) => ("", "not set"),
            };
            // One line each, whatever a value holds.
            writeln!(f, "{name:width$}  {:<40}  {origin}", value.escape_debug().to_string())?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "wrong: {problem}"))?;
        match self.problems.len() {
            0 => write!(f, "the configuration can be used"),
            count => write!(f, "{count} wrong"),
        }
    }
}

/// Levenshtein's, by rows.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.chars().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.chars().count()]
}

/// The names of the files and variables a service is configured by, for its `--help`.
pub(crate) fn keys<C: Config>() -> Vec<String> {
    let mut source = Source::default();
    let _ = C::read(&mut source);
    source.asked.iter().map(|setting| format!("{PREFIX}{}", setting.key.to_uppercase())).collect()
}

/// For help: the variable that names the file.
pub(crate) const FILE: &str = FILE_KEY;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Secret;
    use std::io::Write;
    use std::path::PathBuf;

    struct Probe;

    impl Config for Probe {
        fn read(from: &mut Source) -> Option<Self> {
            let word = from.required::<Secret<String>>("pass_word");
            let bytes = from.or("bytes_max", 30_u32);
            let file = from.required::<PathBuf>("key_file");
            let extra = from.optional::<String>("extra");
            (word.is_some() && bytes.is_some() && file.is_some() && extra.is_some()).then_some(Probe)
        }
    }

    fn report(pairs: &[(&str, &str)]) -> Report {
        check::<Probe>(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn everything_is_shown_with_its_origin_and_no_secret() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "bytes_max = 7").unwrap();
        let path = file.path().to_str().unwrap();
        let vars = [
            ("HOLDFAST_PASS_WORD", "s3cret"),
            ("HOLDFAST_KEY_FILE", path),
            (FILE_KEY, path),
            ("HOLDFAST_LOG", "debug"),
        ];
        assert!(report(&[("HOLDFAST_LOG", "a=b=c")]).warnings[0].contains("is no filter"));
        let text = report(&vars).to_string();
        assert!(!text.contains("s3cret"));
        for (key, words) in
            [("PASS_WORD", "…"), ("BYTES_MAX", "7"), ("EXTRA", "not set"), ("KEY_FILE", "environment")]
        {
            let line = text.lines().find(|line| line.starts_with(&format!("HOLDFAST_{key} "))).unwrap();
            assert!(line.contains(words), "{line}");
        }
        assert!(!text.contains("warning"), "{text}");
        // Secret-free though it is, the probe is no service: its certificates are missing.
        assert!(text.contains("wrong: HOLDFAST_TLS_CERT: is missing"), "{text}");
    }

    #[test]
    fn what_cannot_be_read_and_what_nobody_reads_is_told() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "bytes_maxx = 7").unwrap();
        let vars = [
            ("HOLDFAST_PASS_WORD", "x"),
            ("HOLDFAST_KEY_FILE", "/nonexistent/key"),
            ("HOLDFAST_EXTTRA", "x"),
            (FILE_KEY, file.path().to_str().unwrap()),
        ];
        let report = report(&vars);
        assert!(report.problems[0].starts_with("HOLDFAST_KEY_FILE: /nonexistent/key cannot be read"));
        assert_eq!(
            report.problems[1],
            "HOLDFAST_BYTES_MAXX: nothing reads it; did you mean HOLDFAST_BYTES_MAX?"
        );
        assert_eq!(report.warnings, ["HOLDFAST_EXTTRA: nothing reads it; did you mean HOLDFAST_EXTRA?"]);
    }

    #[test]
    fn a_password_in_an_address_is_no_less_a_secret() {
        let vars = [("HOLDFAST_EXTRA", "emqx+https://key:s3cr@t@host:1")];
        let text = report(&vars).to_string();
        assert!(text.contains("emqx+https://…@host:1") && !text.contains("s3cr"), "{text}");
    }

    #[test]
    fn keys_are_as_far_apart_as_letters_must_change() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!((distance("", "ab"), distance("ab", ""), distance("ab", "ab")), (2, 2, 0));
    }
}
