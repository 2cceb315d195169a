//! The broker's REST interface as the subcommands use it: one request, one answer or one clear sentence.
//!
//! Must never print a key or put one into an error.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::http;
use ureq::unversioned::resolver::DefaultResolver;

use super::args::Remote;
use super::exit::{CliError, Exit};
use super::https;
use crate::ids::{ServerId, StoreId};
use crate::tls::{CertificateProblem, ClientTls};

/// Where the admin key of a broker in this directory lies.
const DEFAULT_KEY_FILE: &str = "fluxrelay-data/admin.key";
/// Bytes of a key file at most; a key is far shorter.
const KEY_FILE_BYTES_MAX: u64 = 4096;
/// A bulk resend of a large store is the slowest call.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The broker sends a comment on a quiet event stream more often than this.
const EVENTS_SILENT_MAX: Duration = Duration::from_secs(60);
/// Bytes of one answer at most: a page of the largest commands with their histories fits.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A broker to ask.
#[derive(Clone)]
pub(super) struct Rest {
    agent: ureq::Agent,
    base: String,
    key: Option<String>,
}

impl Rest {
    /// A broker by its flags: checks the URL and finds the key; does not connect.
    pub(super) fn open(remote: &Remote) -> Result<Rest, CliError> {
        Rest::patient(remote, ANSWER_WITHIN)
    }

    /// As [`Rest::open`], for calls that take long.
    pub(super) fn patient(remote: &Remote, answer_within: Duration) -> Result<Rest, CliError> {
        let key = match (&remote.key, &remote.key_file) {
            (Some(key), _) => Some(key.trim().to_owned()),
            (None, Some(file)) => Some(read_secret(file)?),
            (None, None) if Path::new(DEFAULT_KEY_FILE).exists() => {
                Some(read_secret(Path::new(DEFAULT_KEY_FILE))?)
            }
            (None, None) => None,
        };
        Rest::build(&remote.url, key, remote.tls.client(&remote.url)?, answer_within)
    }

    /// A broker at a URL such as `http://127.0.0.1:7440`; one with https needs to know whom it trusts.
    pub(super) fn new(url: &str, key: Option<String>, tls: Option<ClientTls>) -> Result<Rest, CliError> {
        Rest::build(url, key, tls, ANSWER_WITHIN)
    }

    fn build(
        url: &str,
        key: Option<String>,
        tls: Option<ClientTls>,
        answer_within: Duration,
    ) -> Result<Rest, CliError> {
        let base = url.trim_end_matches('/');
        let uri = base.parse::<http::Uri>().ok().filter(|uri| uri.host().is_some());
        match uri.as_ref().and_then(|uri| uri.scheme_str()) {
            Some("http" | "https") => {}
            _ => {
                let message = format!("--url: expected http://HOST:PORT or https://HOST:PORT, got {url:?}");
                return Err(CliError::usage(message));
            }
        }
        if key.as_deref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(CliError::usage("--key: expected printable ASCII characters without spaces"));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("fluxrelay/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(answer_within))
            .timeout_per_read(Some(EVENTS_SILENT_MAX.max(answer_within)))
            .build();
        let agent = ureq::Agent::with_parts(config, https::connector(tls), DefaultResolver::default());
        Ok(Rest { agent, base: base.to_owned(), key })
    }

    /// `GET path`.
    pub(super) fn get(&self, path: &str) -> Result<Value, CliError> {
        self.call("GET", path, None, &[])
    }

    /// `GET path` of something that is no JSON.
    pub(super) fn text(&self, path: &str) -> Result<String, CliError> {
        let mut response = self.send("GET", path, None, &[])?;
        let (status, text) = (response.status().as_u16(), self.read_body(&mut response)?);
        if status == 200 { Ok(text) } else { Err(refusal(status, &text, self.key.is_some())) }
    }

    /// `POST path` with a JSON body.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.call("POST", path, Some(body), &[])
    }

    /// Any call; an answer without a body is `null`. Errors: refused, unreachable, or not JSON.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Value, CliError> {
        let mut response = self.send(method, path, body, headers)?;
        let status = response.status().as_u16();
        let text = self.read_body(&mut response)?;
        if (200..300).contains(&status) {
            if text.trim().is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_str(&text).map_err(|error| {
                let message = format!("{} answered something that is not JSON: {error}", self.base);
                CliError::new(Exit::Unreachable, message).hint("is that address a fluxrelay broker?")
            });
        }
        Err(refusal(status, &text, self.key.is_some()))
    }

    /// The event stream, from the event after `since`. Blocks in `read` until there is something.
    pub(super) fn events(&self, since: Option<&str>) -> Result<impl Read + Send + use<>, CliError> {
        let mut headers = vec![("Accept", "text/event-stream")];
        headers.extend(since.map(|id| ("Last-Event-ID", id)));
        let mut response = self.send("GET", "/v1/events", None, &headers)?;
        if response.status() != 200 {
            let status = response.status().as_u16();
            let text = self.read_body(&mut response)?;
            return Err(refusal(status, &text, self.key.is_some()));
        }
        Ok(response.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// The id of a server given by id or by name; `"*"` stays as it is.
    pub(super) fn server_id(&self, given: &str) -> Result<String, CliError> {
        if given == "*" || given.parse::<ServerId>().is_ok() {
            return Ok(given.to_owned());
        }
        let servers = self.servers()?;
        let named = servers.iter().find(|server| server["name"] == given);
        match named.and_then(|server| server["id"].as_str()) {
            Some(id) => Ok(id.to_owned()),
            None => Err(CliError::new(Exit::Refused, format!("no server has the id or name {given:?}"))
                .hint("`fluxrelay server list` shows them")),
        }
    }

    /// All servers of the store.
    pub(super) fn servers(&self) -> Result<Vec<Value>, CliError> {
        let (servers, _) = self.pages("/v1/servers?limit=1000", "servers", true)?;
        Ok(servers)
    }

    /// The id of a store given by id or by name.
    pub(super) fn store_id(&self, given: &str) -> Result<String, CliError> {
        if given.parse::<StoreId>().is_ok() {
            return Ok(given.to_owned());
        }
        let (stores, _) = self.pages("/v1/stores?limit=1000", "stores", true)?;
        let named = stores.iter().find(|store| store["name"] == given);
        named.and_then(|store| store["id"].as_str()).map(str::to_owned).ok_or_else(|| {
            CliError::new(Exit::Refused, format!("no store has the id or name {given:?}"))
                .hint("`fluxrelay store list` shows them")
        })
    }

    /// The first page of a listing, or all; and whether there are more. `path` has a query already.
    pub(super) fn pages(&self, path: &str, field: &str, all: bool) -> Result<(Vec<Value>, bool), CliError> {
        let mut found = Vec::new();
        let mut next = path.to_owned();
        loop {
            let page = self.get(&next)?;
            let cursor = page["next_cursor"].as_str().map(escape);
            found.extend(items(page, field));
            match cursor {
                Some(cursor) if all => next = format!("{path}&cursor={cursor}"),
                cursor => return Ok((found, cursor.is_some())),
            }
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<http::Response<ureq::Body>, CliError> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json").body(body.to_string());
                self.agent.run(request.map_err(bad_request)?)
            }
            None => self.agent.run(request.body(()).map_err(bad_request)?),
        };
        sent.map_err(|error| self.unreachable(&error))
    }

    fn read_body(&self, response: &mut http::Response<ureq::Body>) -> Result<String, CliError> {
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        body.read_to_string().map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &ureq::Error) -> CliError {
        let certificate = match error {
            ureq::Error::Io(error) => CertificateProblem::of(error),
            _ => None,
        };
        if let Some(problem) = certificate {
            let message = format!("{}: {problem}", self.base);
            return CliError::new(Exit::Unreachable, message).hint(problem.advice());
        }
        let message = format!("the broker at {} did not answer: {error}", self.base);
        CliError::new(Exit::Unreachable, message)
            .hint("start one with `fluxrelay serve`, or name its address with --url")
    }
}

/// The list in an answer: a bare array, or the named field of an object.
pub(super) fn items(answer: Value, field: &str) -> Vec<Value> {
    match answer {
        Value::Array(items) => items,
        Value::Object(mut object) => match object.remove(field) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// A part of a path or query, with everything escaped that has a meaning there.
pub(super) fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

/// A key or token from its file.
pub(super) fn read_secret(file: &Path) -> Result<String, CliError> {
    let what = || format!("cannot read {}", file.display());
    let opened = std::fs::File::open(file).map_err(|error| CliError::local(what(), error))?;
    let mut text = String::new();
    opened
        .take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| CliError::local(what(), error))?;
    let secret = text.trim();
    if secret.is_empty() || secret.contains(char::is_whitespace) {
        return Err(CliError::usage(format!("{}: expected one line with the secret", file.display())));
    }
    Ok(secret.to_owned())
}

fn bad_request(error: http::Error) -> CliError {
    CliError::usage(format!("a flag has characters that HTTP does not allow: {error}"))
}

/// A problem document (RFC 9457) as one sentence.
fn refusal(status: u16, body: &str, had_key: bool) -> CliError {
    let problem: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let field = |name: &str| problem[name].as_str().filter(|text| !text.is_empty());
    let mut message = match field("detail").or_else(|| field("title")) {
        Some(detail) => detail.trim_end_matches('.').to_owned(),
        None => format!("the broker answered with status {status}"),
    };
    if let Some(name) = field("field") {
        message = format!("{name}: {message}");
    }
    if let Some(range) = field("range") {
        message = format!("{message}; expected {range}");
    }
    if let Some(code) = field("code") {
        message = format!("{message} ({code})");
    }
    let error = CliError::new(Exit::Refused, message);
    match status {
        401 if had_key => error.hint("check --key, FLUXRELAY_KEY or --key-file"),
        401 => {
            error.hint("give a key with FLUXRELAY_KEY or --key-file; the first start of `serve` prints it")
        }
        403 => error.hint("this key may not do that; an admin key may"),
        429 | 503 => error.hint("the broker is busy or stopping; try again"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_becomes_a_sentence_with_its_field() {
        let body = r#"{"type":"about:blank","title":"Bad","status":422,"detail":"it holds CR, LF or NUL.",
                       "code":"invalid_field","field":"commands[1].command","range":"1 to 4096 bytes"}"#;
        let error = refusal(422, body, true);
        assert_eq!(
            error.message,
            "commands[1].command: it holds CR, LF or NUL; expected 1 to 4096 bytes (invalid_field)"
        );
        assert_eq!(error.exit, Exit::Refused);
    }

    #[test]
    fn an_answer_that_is_no_problem_document_names_the_status() {
        assert_eq!(refusal(502, "<html>", true).message, "the broker answered with status 502");
        assert!(refusal(401, "", false).hint.is_some());
    }

    #[test]
    fn urls_are_checked_before_anything_is_sent() {
        for url in ["", "127.0.0.1:7440", "ftp://a", "http://", "wss://a:1"] {
            assert!(Rest::new(url, None, None).is_err_and(|error| error.exit == Exit::Usage), "{url:?}");
        }
        assert!(Rest::new("http://127.0.0.1:7440/", None, None).is_ok());
        assert!(Rest::new("http://a", Some("a\nb".into()), None).is_err());
    }

    #[test]
    fn parts_of_a_path_are_escaped() {
        assert_eq!(escape("cmd_1_2"), "cmd_1_2");
        assert_eq!(escape("../a b?"), "..%2Fa%20b%3F");
    }

    #[test]
    fn a_broker_that_is_not_there_is_unreachable() {
        let rest = Rest::new("http://127.0.0.1:1", None, None).expect("a good URL");
        assert!(rest.get("/healthz").is_err_and(|error| error.exit == Exit::Unreachable));
    }
}
