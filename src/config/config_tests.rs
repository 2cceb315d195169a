//! Tests of settings: precedence, ranges, messages, README's table.

use clap::{Args, Command, FromArgMatches};

use super::*;

fn args(flags: &[&str]) -> ServeArgs {
    let command = ServeArgs::augment_args(Command::new("serve"));
    let matches = command.try_get_matches_from(std::iter::once(&"serve").chain(flags)).unwrap();
    ServeArgs::from_arg_matches(&matches).unwrap()
}

fn load(flags: &[&str]) -> Result<Config, ConfigError> {
    args(flags).load()
}

/// With a file of this text; the message names the file without its folder.
fn load_with(text: &str, flags: &[&str]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fluxrelay.toml");
    std::fs::write(&file, text).unwrap();
    let flags: Vec<&str> =
        ["--config", file.to_str().unwrap()].into_iter().chain(flags.iter().copied()).collect();
    load(&flags).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

#[test]
fn defaults_are_the_contract() {
    let config = load(&[]).unwrap();
    assert_eq!(config, Config::defaults());
    assert_eq!(config.listen.to_string(), "127.0.0.1:7440");
    assert_eq!(config.data_dir, PathBuf::from("fluxrelay-data"));
    assert_eq!(config.retry_delays_seconds, [30, 60, 120]);
    assert!(config.idempotency_days >= 7 && config.retention_days == 30);
}

#[test]
fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
    let text =
        "queue_max = 5\nack_deadline_seconds = 7\nretry_delays_seconds = [1, 2]\nlog_format = \"json\"\n";
    let config = load_with(text, &["--queue-max", "6", "--retry-delays-seconds", ""]).unwrap();
    assert_eq!((config.queue_max, config.ack_deadline_seconds, config.unanswered_max), (6, 7, 10));
    assert_eq!((config.retry_delays_seconds.len(), config.log_format), (0, LogFormat::Json));
}

#[test]
fn every_setting_has_a_flag_a_variable_and_a_key() {
    let command = ServeArgs::augment_args(Command::new("serve"));
    for setting in SETTINGS {
        let arg = command.get_arguments().find(|arg| arg.get_id() == setting.name).unwrap();
        assert_eq!(arg.get_long().unwrap(), setting.name.replace('_', "-"));
        let variable = arg.get_env().unwrap().to_str().unwrap();
        assert_eq!(variable, format!("FLUXRELAY_{}", setting.name.to_uppercase()));
        let value = match setting.default.parse::<u64>() {
            Ok(number) => number.to_string(),
            Err(_) => format!("{:?}", setting.default),
        };
        assert!(load_with(&format!("{} = {value}", setting.name), &[]).is_ok(), "{}", setting.name);
    }
}

#[test]
fn both_ends_of_a_range_are_in_it_and_their_neighbours_are_not() {
    for setting in SETTINGS {
        let Kind::Number { min, max, .. } = setting.kind else { continue };
        assert!(
            setting.kind.read(&min.to_string()).is_some() && setting.kind.read(&max.to_string()).is_some()
        );
        assert!(setting.kind.read(&(max + 1).to_string()).is_none(), "{}", setting.name);
        assert!(min == 0 || setting.kind.read(&(min - 1).to_string()).is_none(), "{}", setting.name);
        for text in ["", "-1", "+1", "1.5", "1e3", "ten", "_1", "1_", "99999999999999999999"] {
            assert!(setting.kind.read(text).is_none(), "{} = {text:?}", setting.name);
        }
    }
    assert!(Kind::list(2, 1, 9, "s").read("1, 9").is_some());
    for text in ["1,", ",", "0", "10", "1,2,3", "1;2"] {
        assert!(Kind::list(2, 1, 9, "s").read(text).is_none(), "{text:?}");
    }
}

#[test]
fn a_message_names_setting_value_place_and_range() {
    for (result, expected) in [
        (
            load_with("", &["--queue-max", "0"]),
            "queue_max is \"0\" (by --queue-max): it must be 1 to 10000000 commands",
        ),
        (
            load_with("heartbeat_seconds = 13", &[]),
            "heartbeat_seconds is \"13\" (in fluxrelay.toml): it must be 1 to 12 seconds",
        ),
        (
            load_with("insecure_plaintext = \"yes\"", &[]),
            "insecure_plaintext is \"yes\" (in fluxrelay.toml): it must be true or false",
        ),
        (
            load_with("retry_delays_seconds = [30, \"60\"]", &[]),
            "retry_delays_seconds is \"[30, \\\"60\\\"]\" (in fluxrelay.toml): it must be up to 16 numbers of 1 to \
             86400 seconds, with commas between them",
        ),
        (
            load_with("", &["--log", "loud=very"]),
            "log is \"loud=very\" (by --log): it must be error, warn, info, debug, trace or off, also per target \
             (info,fluxrelay::http=debug)",
        ),
        (
            load_with("que_max = 3", &[]),
            "fluxrelay.toml: there is no setting \"que_max\"; did you mean queue_max?",
        ),
        (
            load_with("[queue]\nmax = 3", &[]),
            "fluxrelay.toml: there is no setting \"queue\"; did you mean queue_max?",
        ),
    ] {
        assert_eq!(result.unwrap_err(), expected);
    }
}

#[test]
fn quic_needs_a_certificate() {
    let listen = ["--quic-listen", "127.0.0.1:7440"];
    let error = load(&listen).unwrap_err().to_string();
    assert!(error.starts_with("quic_listen is 127.0.0.1:7440 (by --quic-listen)"), "{error}");
    assert!(error.contains("tls_self_signed") == cfg!(feature = "quic"), "{error}");
    let with_tls = load(&[&listen[..], &["--tls-self-signed"]].concat());
    assert!(with_tls.is_ok() == cfg!(feature = "quic"), "{with_tls:?}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = load(&["--config", "/nowhere/fluxrelay.toml"]).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nowhere/fluxrelay.toml: "), "{error}");
    let error = load_with("queue_max = ", &[]).unwrap_err();
    assert!(error.starts_with("fluxrelay.toml is not TOML") && error.contains("line 1"), "{error}");
}

#[test]
fn plaintext_beyond_this_machine_has_to_be_asked_for() {
    for listen in ["0.0.0.0:7440", "192.168.1.4:7440", "[::]:7440"] {
        let error = load(&["--listen", listen]).unwrap_err();
        assert!(matches!(&error, ConfigError::Conflict { name: "listen", .. }), "{error}");
        assert!(load(&["--listen", listen, "--insecure-plaintext"]).is_ok());
        assert!(load(&["--listen", listen, "--insecure-plaintext=false"]).is_err());
        assert!(load_with("insecure_plaintext = true", &["--listen", listen]).is_ok());
    }
    assert!(load(&["--listen", "[::1]:0"]).is_ok());
}

#[test]
fn tls_needs_no_switch_for_plaintext() {
    let far = ["--listen", "0.0.0.0:7440"];
    let with = |flags: &[&str]| load(&[&far, flags].concat());
    assert!(with(&["--tls-cert", "a.crt", "--tls-key", "a.key"]).is_ok_and(|config| config.has_tls()));
    assert!(with(&["--tls-self-signed"]).is_ok_and(|config| config.has_tls()));
    assert!(with(&["--tls-self-signed=false"]).is_err());
    let config = load_with("tls_cert = \"a.crt\"\ntls_key = \"a.key\"", &far).unwrap();
    assert_eq!(config.tls_cert, Some(PathBuf::from("a.crt")));
}

#[test]
fn half_a_pair_and_two_certificates_are_refused() {
    let pair = ["--tls-cert", "a.crt", "--tls-key", "a.key"];
    for (flags, named, word) in [
        (&pair[..2], "tls_cert", "set tls_key"),
        (&pair[2..], "tls_key", "set tls_cert"),
        (&[&pair[..], &["--tls-self-signed"]].concat()[..], "tls_self_signed", "leave out"),
    ] {
        let error = load(flags).unwrap_err();
        assert!(matches!(&error, ConfigError::Conflict { name, .. } if *name == named), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    // An empty value takes back what a file says.
    assert!(load_with("tls_cert = \"a.crt\"", &["--tls-cert", ""]).is_ok());
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    assert!(load(&["--retention-days", "7"]).is_err());
    assert!(load(&["--retention-days", "7", "--idempotency-days", "7"]).is_ok());
    assert!(load(&["--live-max", "10"]).is_err());
    assert!(load(&["--live-max", "10", "--queue-max", "10"]).is_ok());
}

#[test]
fn what_is_left_to_the_machine_follows_its_cores() {
    for (cores, shards) in [(1, 1), (2, 1), (8, 4), (1000, 64)] {
        let mut config = Config::defaults();
        (config.shards, config.runtime_threads, config.door_threads, config.login_threads) = (0, 0, 0, 0);
        config.settle(cores);
        assert_eq!(config.shards, shards, "{cores} cores");
        assert_eq!([config.runtime_threads, config.door_threads, config.login_threads], [cores; 3]);
    }
    assert_eq!(load(&["--shards", "3"]).unwrap().shards, 3);
}

#[test]
fn all_settings_are_printed() {
    let line = Config::defaults().to_string();
    for setting in SETTINGS {
        assert!(line.contains(&format!("{}=", setting.name)), "{line}");
    }
}

#[test]
fn readme_shows_the_settings_as_they_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (_, rest) = readme.split_once("<!-- settings").expect("README has a place for the settings");
    let (_, rest) = rest.split_once("-->\n").unwrap();
    let (shown, _) = rest.split_once("<!-- /settings -->").unwrap();
    assert!(shown.trim() == markdown_table().trim(), "README should have:\n{}", markdown_table());
}
