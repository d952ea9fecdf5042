//! The configuration: one TOML file, overridden by the environment, validated at start.
//!
//! Every key has a home in [`sections`]; [`check`] holds the relations between keys. A bad value
//! stops the start with its key and the fix. Secrets are never in the file itself: the file names a
//! file or an environment variable that holds them.

mod check;
mod example;
pub mod sections;

use std::path::{Path, PathBuf};

use config::{ConfigError, Environment, File, FileFormat};

pub use self::{check::Problem, example::EXAMPLE, sections::Config};

/// Prefix of environment overrides; `__` separates the levels, so that
/// `SAS_BROKER__SERVER__LISTEN` overrides `server.listen`.
pub const ENVIRONMENT_PREFIX: &str = "SAS_BROKER";

/// Keys that hold lists, which an environment variable separates by commas.
const LISTS: [&str; 3] = [
    "server.trusted_proxies",
    "cloud.allowed_hosts",
    "entra.audiences",
];

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing, unreadable, not TOML, or a key is unknown or of the wrong type.
    #[error("configuration {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// Keys are well formed but make no sense together.
    #[error("configuration {path}:\n{}", list(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Each key with what is wrong and the fix.
        problems: Vec<Problem>,
    },
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| format!("  {}: {}", p.key, p.fix))
        .collect();
    lines.join("\n")
}

/// What the reader said, without the lines of the file that it quotes: a database's URL may hold a
/// password.
fn unreadable(path: &Path, error: &ConfigError) -> LoadError {
    let said = error.to_string();
    let words = said.lines().filter(|line| !line.contains('|'));
    LoadError::Unreadable {
        path: path.to_owned(),
        reason: words.map(str::trim).collect::<Vec<_>>().join(", "),
    }
}

impl Config {
    /// Reads the file and the environment and checks the result.
    ///
    /// # Errors
    /// [`LoadError`] names every key that is wrong.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let environment = Environment::with_prefix(ENVIRONMENT_PREFIX)
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .list_separator(",");
        let environment = LISTS
            .iter()
            .fold(environment, |env, key| env.with_list_parse_key(key));
        let config: Self = config::Config::builder()
            .add_source(File::from(path).format(FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| unreadable(path, &error))?;
        config.checked(path)
    }

    /// Reads a configuration from text alone, without the environment.
    ///
    /// # Errors
    /// As [`Config::load`]; the path is `<text>`.
    pub fn from_toml(text: &str) -> Result<Self, LoadError> {
        let path = Path::new("<text>");
        let config: Self = config::Config::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| unreadable(path, &error))?;
        config.checked(path)
    }

    fn checked(self, path: &Path) -> Result<Self, LoadError> {
        let problems = self.problems();
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(LoadError::Invalid {
                path: path.to_owned(),
                problems,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TenantId;

    #[test]
    fn the_example_is_valid() {
        let config = Config::from_toml(EXAMPLE).unwrap();
        assert_eq!(config.entra.tenants.len(), 1);
    }

    #[test]
    fn of_several_directories_only_the_named_ones_administer() {
        let tenants = |text: &str| {
            let rules = Config::from_toml(text).unwrap().entra.access_rules();
            let last = |id: TenantId| id.0.as_u128();
            let ids = rules.administering_tenants.into_iter().map(last);
            ids.collect::<Vec<_>>()
        };
        let one = EXAMPLE.replace("administers = true\n", "");
        let other = "[[entra.tenants]]\nid = \"00000000-0000-0000-0000-000000000001\"\n";
        assert_eq!(tenants(&one), [0]);
        assert_eq!(tenants(&format!("{one}\n{other}")), [0_u128; 0]);
        assert_eq!(tenants(&format!("{EXAMPLE}\n{other}")), [0]);
        let both = format!("{EXAMPLE}\n{other}administers = true\n");
        assert_eq!(tenants(&both), [0, 1]);
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = Config::from_toml(&EXAMPLE.replace("listen =", "lisen =")).unwrap_err();
        assert!(error.to_string().contains("lisen"), "{error}");
    }

    #[test]
    fn problems_name_the_key_and_the_fix() {
        let rows = [
            ("127.0.0.1:8080", "0.0.0.0:8080", "server.listen"),
            (
                "api://sas-broker",
                "https://storage.azure.com/",
                "entra.audiences",
            ),
            (
                "lifetime_seconds_max = 3600",
                "lifetime_seconds_max = 90000",
                "issuing.lifetime_seconds_max",
            ),
            (
                "clock_skew_seconds = 120",
                "clock_skew_seconds = 301",
                "entra.clock_skew_seconds",
            ),
            (
                "sqlite://sas-broker.db",
                "mysql://localhost/x",
                "database.url",
            ),
            (
                "filter = \"info\"",
                "filter = \"sas_broker=loud\"",
                "log.filter",
            ),
        ];
        for (good, bad, key) in rows {
            let text = EXAMPLE.replace(good, bad);
            assert_ne!(text, EXAMPLE, "the example no longer holds {good}");
            let error = Config::from_toml(&text).unwrap_err();
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn an_api_version_may_be_named_and_is_checked() {
        for (key, good) in [
            ("resource_manager_api_version", "2024-01-01"),
            ("vault_api_version", "2025-07-01"),
        ] {
            let line = format!("# {key} = \"{good}\"");
            assert!(
                EXAMPLE.contains(&line),
                "the example no longer holds {line}"
            );
            for (value, fine) in [
                (good, true),
                ("7.6-preview.1", true),
                ("v1", false),
                ("", false),
            ] {
                let text = EXAMPLE.replace(&line, &format!("{key} = \"{value}\""));
                let read = Config::from_toml(&text);
                assert_eq!(read.is_ok(), fine, "{key} = {value}");
            }
        }
    }

    #[test]
    fn an_unknown_word_is_told_with_the_known_ones() {
        let rows = [
            ("name = \"public\"", "cloud.name", "us_government"),
            ("groups_claim = \"absent\"", "groups_claim", "configured"),
            ("format = \"json\"", "log.format", "text"),
        ];
        for (line, key, known) in rows {
            let (name, _) = line.split_once('=').unwrap();
            let text = EXAMPLE.replace(line, &format!("{name}= \"mars\""));
            let error = Config::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(known), "{error}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_placed_but_not_quoted() {
        let text = EXAMPLE.replace(
            "\"sqlite://sas-broker.db\"",
            "postgres://broker:hunter2@localhost/x",
        );
        let error = Config::from_toml(&text).unwrap_err().to_string();
        let line = EXAMPLE.lines().position(|line| line.starts_with("url = "));
        let line = format!("line {}", line.unwrap() + 1);
        assert!(error.contains(&line), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    /// The example with the sections that it leaves out, and one line of them changed.
    fn with_signals(good: &str, bad: &str) -> Result<Config, LoadError> {
        let begins =
            |line: &str| line.starts_with("# [metrics]") || line.starts_with("# [webhook]");
        let mut inside = false;
        let lines: Vec<_> = EXAMPLE
            .lines()
            .map(|line| {
                inside = begins(line) || inside && line.starts_with("# ");
                line.strip_prefix("# ").filter(|_| inside).unwrap_or(line)
            })
            .collect();
        let text = lines.join("\n");
        assert!(text.contains(good), "the example no longer holds {good}");
        Config::from_toml(&text.replace(good, bad))
    }

    #[test]
    fn the_sections_that_the_example_leaves_out_are_valid_too() {
        let config = with_signals("", "").unwrap();
        assert_eq!(config.metrics.unwrap().listen.port(), 9464);
        let webhook = config.webhook.unwrap();
        assert_eq!(webhook.url.to_string(), "https://hooks.example.com");
        assert_eq!(webhook.source.as_str(), "urn:sas-broker");
    }

    #[test]
    fn problems_of_signals_name_the_key_and_quote_no_address() {
        let secret_file = "secret_file = \"/etc/sas-broker/webhook-secret\"";
        let address = "https://hooks.example.com/sas-broker";
        for (good, bad, key) in [
            ("127.0.0.1:9464", "0.0.0.0:9464", "metrics.listen"),
            ("127.0.0.1:9464", "9464", "metrics.listen"),
            ("beyond_loopback", "beyond", "beyond"),
            (address, "http://hooks.example.com/canary", "webhook.url"),
            (
                address,
                "https://ada:canary@hooks.example.com",
                "webhook.url",
            ),
            (address, "canary", "webhook.url"),
            ("urn:sas-broker", "not a source", "webhook.source"),
            (secret_file, "", "webhook.secret_file"),
            (
                secret_file,
                "secret_file = \"a\"\nsecret_env = \"B\"",
                "webhook.secret_file",
            ),
            (
                secret_file,
                "secret_file = \"a\"\nformer_secret_file = \"b\"\nformer_secret_env = \"C\"",
                "webhook.former_secret_file",
            ),
        ] {
            let error = with_signals(good, bad).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let anywhere = "0.0.0.0:9464\"\nbeyond_loopback = true #";
        let allowed = with_signals("127.0.0.1:9464\"\nbeyond_loopback = false", anywhere);
        assert!(allowed.is_ok(), "{allowed:?}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = EXAMPLE.replace(
            "sqlite://sas-broker.db",
            "postgres://broker:hunter2@localhost/x",
        );
        let config = Config::from_toml(&text).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
