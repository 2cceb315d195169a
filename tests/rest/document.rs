//! Holds answers against the OpenAPI document: every status is documented, every field too, and none is missing.

use axum::body::Body;
use axum::http::{Method, Request};
use fluxrelay::credentials::IN_URL;
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use crate::relay::Relay;

/// Fails if the document does not allow this answer.
pub(crate) async fn check(relay: &Relay, method: &Method, path: &str, status: u16, body: &Value) {
    let document = relay.document.get_or_init(|| load(relay)).await;
    let call = format!("{method} {path}");
    let Some(operation) = operation(document, method, path) else {
        // A credential in the URL is refused first, wherever it is sent to.
        let is_in_url = status == 422 && body["detail"] == IN_URL;
        assert!(
            matches!(status, 404 | 405) || is_in_url,
            "{call} is not in the document and answers {status}"
        );
        return;
    };
    let response = &operation["responses"][status.to_string()];
    assert!(response.is_object(), "{call} answers {status}, which the document does not say: {body}");
    for kind in ["application/json", "application/problem+json"] {
        let schema = &response["content"][kind]["schema"];
        if schema.is_object()
            && let Err(error) = fits(document, schema, body)
        {
            panic!("{call} {status}: {error} in {body}");
        }
    }
}

async fn load(relay: &Relay) -> Value {
    let request = Request::builder().uri("/openapi.json").body(Body::empty()).expect("a request");
    let bytes = relay.open(request).await.into_body().collect().await.expect("the body is whole").to_bytes();
    serde_json::from_slice(&bytes).expect("the document is JSON")
}

/// The call of the document that a request meant; a literal path wins over one with a parameter.
fn operation<'d>(document: &'d Value, method: &Method, path: &str) -> Option<&'d Value> {
    let paths = document["paths"].as_object()?;
    let item = paths.get(path).or_else(|| {
        let matching = paths.iter().find(|(template, _)| same_shape(template, path));
        matching.map(|(_, item)| item)
    })?;
    item.get(method.as_str().to_ascii_lowercase())
}

fn same_shape(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(want, have)| want.starts_with('{') || want == have)
}

fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => resolve(document, document.pointer(pointer).expect("references resolve")),
        None => schema,
    }
}

fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolve(document, schema);
    for either in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[either].as_array() {
            let tried: Vec<_> = choices.iter().map(|choice| fits(document, choice, value)).collect();
            if tried.iter().all(Result::is_err) {
                return Err(format!("{tried:?}"));
            }
            return Ok(());
        }
    }
    if let Some(choices) = schema["enum"].as_array()
        && !choices.contains(value)
    {
        return Err(format!("{value} is none of {choices:?}"));
    }
    if !has_type(&schema["type"], value) && schema["allOf"].is_null() {
        return Err(format!("{value} is not of type {}", schema["type"]));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| fits(document, &schema["items"], item)),
        Value::Object(object) => fields_fit(document, schema, object),
        _ => Ok(()),
    }
}

fn has_type(types: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    match types {
        Value::Null => true,
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    }
}

fn fields_fit(document: &Value, schema: &Value, object: &Map<String, Value>) -> Result<(), String> {
    let (mut known, mut required) = (Map::new(), Vec::new());
    gather(document, schema, &mut known, &mut required);
    if known.is_empty() {
        return Ok(());
    }
    if let Some(missing) = required.iter().find(|field| !object.contains_key(*field)) {
        return Err(format!("{missing} is missing"));
    }
    for (field, value) in object {
        let schema = known.get(field).ok_or_else(|| format!("{field} is not documented"))?;
        fits(document, schema, value).map_err(|error| format!("{field}: {error}"))?;
    }
    Ok(())
}

/// All fields of an object, those of the parts that it is made of included.
fn gather(document: &Value, schema: &Value, known: &mut Map<String, Value>, required: &mut Vec<String>) {
    let schema = resolve(document, schema);
    if let Some(properties) = schema["properties"].as_object() {
        known.extend(properties.clone());
    }
    if let Some(fields) = schema["required"].as_array() {
        required.extend(fields.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    for part in ["allOf", "oneOf"] {
        for part in schema[part].as_array().into_iter().flatten() {
            gather(document, part, known, required);
        }
    }
}
