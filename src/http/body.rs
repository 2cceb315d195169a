//! Request bodies and queries into values: size, time, type and shape are checked here, meaning by the resources.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::{Code, Problem};
use crate::credentials::redacted;
use crate::limits::{BODY_BYTES_MAX, PAGE_MAX};

/// How long a body may take from its first byte to its last.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Characters of a parser's own words that are repeated to the caller.
const DETAIL_CHARS_MAX: usize = 500;
/// Rows of a page when the caller does not say.
const PAGE_DEFAULT: usize = 100;

/// A JSON body, at most `BODY_BYTES_MAX` long, that has the shape of `T`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, Problem> {
        check_content_type(request.headers())?;
        let bytes = collect(request.into_body(), BODY_TIME_MAX).await?;
        read_json(&bytes).map(JsonBody)
    }
}

/// A query string that has the shape of `T`; other parameters are refused.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params<T>, Problem> {
        let Query(value) = Query::try_from_uri(&parts.uri)
            .map_err(|rejection| Problem::new(Code::InvalidField, shorten(&rejection.body_text())))?;
        Ok(Params(value))
    }
}

/// A call that takes no query: any is refused, because a parameter that is overlooked is worse than one that is not.
pub(super) struct NoParams;

impl<S: Send + Sync> FromRequestParts<S> for NoParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<NoParams, Problem> {
        let first = parts.uri.query().unwrap_or_default().split(['&', '=']).next().unwrap_or_default();
        if first.is_empty() {
            return Ok(NoParams);
        }
        Err(Problem::field(shorten(first), "this call takes no parameter in its URL"))
    }
}

/// The id in the path of a call. One that is not even text is nobody's.
pub(super) struct PathId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathId, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(PathId(id)),
            Err(_) => Err(Problem::new(Code::NotFound, "the id in the path is not UTF-8")),
        }
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Code::InvalidBody, "send the header `Content-Type: application/json`")
        .status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .at("Content-Type")
        .range("application/json"))
}

fn too_large() -> Problem {
    Problem::new(Code::BodyTooLarge, "split it into several calls")
        .range(format!("0 to {BODY_BYTES_MAX} bytes"))
}

async fn collect(body: Body, time_max: Duration) -> Result<Bytes, Problem> {
    // By its own word, before a byte of it was read.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let whole = Limited::new(body, BODY_BYTES_MAX).collect();
    let Ok(result) = tokio::time::timeout(time_max, whole).await else {
        let detail = format!("send it within {} s", time_max.as_secs());
        return Err(Problem::new(Code::InvalidBody, detail).status(StatusCode::REQUEST_TIMEOUT));
    };
    match result {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::new(Code::InvalidBody, "the connection broke off or the encoding is wrong")),
    }
}

/// Reads JSON; an error names the path of the field, like `commands[3].server`.
fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let detail = shorten(&inner.to_string());
        match inner.classify() {
            serde_json::error::Category::Data if path == "." => Problem::new(Code::InvalidField, detail),
            serde_json::error::Category::Data => Problem::field(shorten(&path), detail),
            _ => Problem::new(Code::InvalidBody, detail),
        }
    })?;
    deserializer.end().map_err(|error| Problem::new(Code::InvalidBody, shorten(&error.to_string())))?;
    Ok(value)
}

/// The beginning of a text; half a secret at its end would not be known as one any more.
fn shorten(text: &str) -> String {
    redacted(text).chars().take(DETAIL_CHARS_MAX).collect()
}

/// Reads the `limit` of a page.
pub(super) fn page_limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(PAGE_DEFAULT) };
    text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or_else(|| {
        Problem::field("limit", "how many rows a page has at most").range(format!("1 to {PAGE_MAX}"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        inner: Vec<Inner>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        number: u8,
    }

    fn refused(json: &str) -> (Code, Option<String>) {
        let problem = read_json::<Outer>(json.as_bytes()).unwrap_err();
        (problem.parts().0, problem.parts().2.map(str::to_owned))
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            (r#"{"inner":[{"number":1},{"number":256}]}"#, Some("inner[1].number")),
            (r#"{"inner":[{"number":"1"}]}"#, Some("inner[0].number")),
            (r#"{"inner":[{"number":1,"more":2}]}"#, Some("inner[0].more")),
            (r#"{"inner":[{}]}"#, Some("inner[0]")),
            (r#"{}"#, None),
            (r#"[]"#, None),
        ];
        for (json, field) in cases {
            assert_eq!(refused(json), (Code::InvalidField, field.map(str::to_owned)), "{json}");
        }
    }

    #[test]
    fn the_name_of_a_field_is_repeated_in_part() {
        let name = "a name ".repeat(DETAIL_CHARS_MAX);
        let (code, field) = refused(&format!(r#"{{"{name}":1}}"#));
        assert_eq!((code, field.map(|field| field.len())), (Code::InvalidField, Some(DETAIL_CHARS_MAX)));
    }

    #[test]
    fn what_is_not_json_is_said_to_be_that() {
        for json in ["", "{", "{\"inner\":[}", "{\"inner\":[]} x", "nul", "{\"inner\":[{\"number\":1}],}"] {
            assert_eq!(refused(json).0, Code::InvalidBody, "{json}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion() {
        let deep = "[".repeat(100_000);
        let problem = read_json::<serde_json::Value>(deep.as_bytes()).unwrap_err();
        assert_eq!(problem.parts().0, Code::InvalidBody);
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_bound_and_no_larger() {
        let fits = Body::from(vec![b' '; BODY_BYTES_MAX]);
        assert_eq!(collect(fits, BODY_TIME_MAX).await.unwrap().len(), BODY_BYTES_MAX);
        let over = Body::from(vec![b' '; BODY_BYTES_MAX + 1]);
        assert_eq!(collect(over, BODY_TIME_MAX).await.unwrap_err().parts().0, Code::BodyTooLarge);
        // Without a length of which it could be known before.
        let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b' '; BODY_BYTES_MAX / 2]));
        let pieces = [piece(), piece(), piece()];
        let unknown = Body::from_stream(futures_util::stream::iter(pieces));
        assert_eq!(collect(unknown, BODY_TIME_MAX).await.unwrap_err().parts().0, Code::BodyTooLarge);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let stalled = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let problem = collect(stalled, Duration::ZERO).await.unwrap_err();
        assert_eq!(problem.parts().0, Code::InvalidBody);
    }

    #[test]
    fn only_json_is_taken() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            check_content_type(&headers)
        };
        assert_eq!(with("application/json"), Ok(()));
        assert_eq!(with("Application/JSON; charset=utf-8"), Ok(()));
        assert!(with("text/plain").is_err());
        assert!(with("application/jsonx").is_err());
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn a_query_is_refused_where_none_is_taken() {
        for (uri, field) in
            [("/a", None), ("/a?", None), ("/a?store=sto_2", Some("store")), ("/a?x", Some("x"))]
        {
            let (mut parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            let refused = NoParams::from_request_parts(&mut parts, &()).await.err();
            assert_eq!(refused.as_ref().and_then(|problem| problem.parts().2), field, "{uri}");
        }
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(page_limit(None), Ok(PAGE_DEFAULT));
        assert_eq!(page_limit(Some("1000")), Ok(1000));
        for text in ["0", "1001", "-1", "many", ""] {
            assert!(page_limit(Some(text)).is_err(), "{text:?}");
        }
    }
}
