//! A project as `holdfast.toml` describes it: how it is built, and what its bundle is made of.
//!
//! The values of `[update]` are those of the flags of `bundle create`, which judges them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::failure::input;

/// The file's name.
pub(crate) const FILE: &str = "holdfast.toml";
/// Where bundles of a project go, in its folder.
const OUT: &str = ".holdfast";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Project {
    pub(crate) app: App,
    build: Build,
    sign: Sign,
    #[serde(default)]
    debug: Debug,
    #[serde(default)]
    update: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    pub(crate) name: String,
    /// Which people see; the same may be deployed again.
    pub(crate) version: String,
    pub(crate) board: String,
    counter: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    command: String,
    elf: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sign {
    key: String,
}

/// Who may debug it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Debug {
    /// Public keys, or files with them.
    #[serde(default)]
    keys: Vec<String>,
}

impl Project {
    /// Reads the project in this folder.
    pub(crate) fn read(folder: &Path) -> Result<Project> {
        let file = folder.join(FILE);
        let text = match std::fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(input(format!(
                    "no {FILE} in {}: make a project with `holdfast new app NAME --lang c|rust`, or give --dir",
                    folder.display()
                )));
            }
            text => text.with_context(|| format!("cannot read {}", file.display()))?,
        };
        toml::from_str(&text).map_err(|error| input(format!("{}: {error}", file.display())))
    }

    /// The nearest folder with a project: this one, or one above it.
    pub(crate) fn folder(from: &Path) -> Option<&Path> {
        from.ancestors().find(|folder| folder.join(FILE).is_file())
    }

    /// Runs the build; what it prints goes to our stderr, since stdout is for what we say.
    pub(crate) fn build(&self, folder: &Path) -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", &self.build.command]).current_dir(folder).stdin(Stdio::null());
        let status = command.stdout(std::io::stderr()).status().context("cannot start sh")?;
        if !status.success() {
            return Err(input(format!("the build failed (`{}`: {status})", self.build.command)));
        }
        self.is_built(folder)
    }

    /// Whether there is something to bundle.
    pub(crate) fn is_built(&self, folder: &Path) -> Result<()> {
        let elf = folder.join(&self.build.elf);
        if !elf.is_file() {
            return Err(input(format!(
                "`{}` has not made {}: put the right `elf` into {FILE}",
                self.build.command,
                elf.display()
            )));
        }
        Ok(())
    }

    /// Where its bundle goes; makes the folder.
    pub(crate) fn bundle(&self, folder: &Path) -> Result<PathBuf> {
        let out = folder.join(OUT);
        std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        Ok(out.join(format!("{}-{}.hfb", self.app.name, self.app.version)))
    }

    /// What `bundle create` is told.
    pub(crate) fn create_words(&self, folder: &Path, out: &Path) -> Result<Vec<String>> {
        let pair = |flag: &str, value: String| [flag.to_owned(), value];
        let mut words = Vec::new();
        words.extend(pair("--image", text(&folder.join(&self.build.elf))?));
        words.extend(pair("--board", self.app.board.clone()));
        words.extend(pair("--version", self.app.version.clone()));
        words.extend(pair("--counter", self.app.counter.to_string()));
        words.extend(pair("--key", self.key(folder)?));
        words.extend(pair("--out", text(out)?));
        for key in &self.debug.keys {
            let file = folder.join(key);
            let key = if file.is_file() { text(&file)? } else { key.clone() };
            words.extend(pair("--debug-key", key));
        }
        for (key, value) in &self.update {
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                _ => return Err(input(format!("{FILE}: `{key}` in [update] is neither text nor a number"))),
            };
            words.push(format!("--{key}={value}"));
        }
        Ok(words)
    }

    /// A key's file is from the project's folder, as all its paths.
    fn key(&self, folder: &Path) -> Result<String> {
        if self.sign.key.starts_with("exec:") {
            return Ok(self.sign.key.clone());
        }
        let file = folder.join(&self.sign.key);
        if !file.is_file() {
            return Err(input(format!(
                "no release key at {}: put its place into [sign] of {FILE} (`holdfast keyset init --dir keys` makes one)",
                file.display()
            )));
        }
        text(&file)
    }
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[app]\nname = 'a'\nversion = '0.1.0'\nboard = 'an505'\ncounter = 1\n\
                        [build]\ncommand = 'true'\nelf = 'a.elf'\n[sign]\nkey = 'key.pem'\n[update]\ntrial = '5s'\nattempts = 2\n";

    fn project(text: &str) -> (tempfile::TempDir, Result<Project>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let project = Project::read(folder.path());
        (folder, project)
    }

    #[test]
    fn a_project_says_what_bundle_create_is_told() {
        let (folder, project) = project(GOOD);
        std::fs::write(folder.path().join("key.pem"), "").unwrap();
        let words = project.unwrap().create_words(folder.path(), Path::new("out")).unwrap();
        assert!(
            words.iter().any(|word| word == "--trial=5s") && words.iter().any(|word| word == "--attempts=2")
        );
    }

    #[test]
    fn who_may_debug_it_is_a_key_or_a_file_of_the_project() {
        let (folder, project) = project(&format!("{GOOD}[debug]\nkeys = ['me.pub', '00ff']\n"));
        std::fs::write(folder.path().join("key.pem"), "").unwrap();
        std::fs::write(folder.path().join("me.pub"), "").unwrap();
        let words = project.unwrap().create_words(folder.path(), Path::new("out")).unwrap();
        let keys: Vec<_> =
            words.windows(2).filter(|pair| pair[0] == "--debug-key").map(|pair| &pair[1]).collect();
        assert_eq!(keys, [folder.path().join("me.pub").to_str().unwrap(), "00ff"]);
    }

    #[test]
    fn a_project_is_found_from_the_folders_in_it() {
        let (folder, _project) = project(GOOD);
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(Project::folder(&inner), Some(folder.path()));
        assert_eq!(Project::folder(&tempfile::tempdir().unwrap().path().join("a")), None);
    }

    #[test]
    fn what_is_wrong_in_a_project_is_named() {
        let nothing = tempfile::tempdir().unwrap();
        assert!(Project::read(nothing.path()).unwrap_err().to_string().contains("holdfast new app"));
        let (_folder, unknown) = project(&GOOD.replace("counter", "countre"));
        assert!(unknown.unwrap_err().to_string().contains("countre"));
        let (folder, good) = project(GOOD);
        let good = good.unwrap();
        assert!(good.build(folder.path()).unwrap_err().to_string().contains("a.elf"));
        assert!(
            good.create_words(folder.path(), Path::new("out")).unwrap_err().to_string().contains("key.pem")
        );
        for (good, bad) in
            [("counter = 1", "counter = 'x'"), ("board = 'an505'", ""), ("[sign]\nkey = 'key.pem'", "")]
        {
            let (_folder, wrong) = project(&GOOD.replace(good, bad));
            assert!(wrong.unwrap_err().to_string().contains(FILE), "{bad}");
        }
        let (_folder, list) = project(&GOOD.replace("'5s'", "[5]"));
        std::fs::write(_folder.path().join("key.pem"), "").unwrap();
        let list = list.unwrap().create_words(_folder.path(), Path::new("out"));
        assert!(list.unwrap_err().to_string().contains("trial"));
        let (folder, failing) = project(&GOOD.replace("'true'", "'exit 3'"));
        assert!(failing.unwrap().build(folder.path()).unwrap_err().to_string().contains("exit 3"));
    }
}
