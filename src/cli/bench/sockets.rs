//! Whether this machine can hold as many connections as a bench is to open, said before anything is made.

use crate::cli::exit::CliError;
use crate::cli::open_files::{self, FILES_BESIDE};

/// Where Linux says from which ports a process may connect.
const PORTS_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Makes room for so many connections at once in this process and in those that it starts.
///
/// # Errors
/// The system allows fewer open files or ports.
pub fn make_room(connections: u32) -> Result<(), CliError> {
    let connections = u64::from(connections);
    let files = open_files::raise();
    if files < connections + FILES_BESIDE {
        let needed = connections + FILES_BESIDE;
        let message =
            format!("{connections} connections need {needed} open files, this system allows {files}");
        return Err(CliError::usage(message)
            .hint("raise the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd) or give fewer --servers"));
    }
    match std::fs::read_to_string(PORTS_FILE).ok().and_then(|text| ports(&text)) {
        Some(ports) if ports < connections + FILES_BESIDE => {
            let message = format!("{connections} connections need as many ports, this system has {ports}");
            Err(CliError::usage(message)
                .hint("widen net.ipv4.ip_local_port_range (sysctl) or give fewer --servers"))
        }
        _ => Ok(()),
    }
}

/// How many ports a range such as `32768 60999` has.
fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn ports_are_counted() {
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports("1 1"), Some(1));
        assert_eq!(ports("2 1"), Some(0));
        assert_eq!(ports("many"), None);
    }

    #[test]
    fn too_many_are_refused_with_what_to_do() {
        make_room(8).expect("any system allows a few");
        let error = make_room(u32::MAX).expect_err("no system has so many ports");
        assert!(error.exit == Exit::Usage && error.hint.is_some(), "{error:?}");
    }
}
