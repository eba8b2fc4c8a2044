//! `cargo dev env`: makes a shell speak to an installation that `cargo dev up` runs: `eval "$(cargo dev env)"`.

use anyhow::{Result, ensure};

use crate::command::up;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The installation, as named to `cargo dev up`.
    #[arg(long, default_value = "main", value_parser = up::name)]
    name: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let name = &arguments.name;
    let home = dev::dot_dev().join(name).join("home");
    ensure!(home.is_dir(), "no installation is called {name}: start it with `cargo dev up --name {name}`");
    println!("export HOLDFAST_HOME={}", quoted(&home.display().to_string()));
    println!("export PATH={}:\"$PATH\"", quoted(&dev::binary_dir()?.display().to_string()));
    Ok(())
}

/// One word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted("/a b/$c"), "'/a b/$c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
