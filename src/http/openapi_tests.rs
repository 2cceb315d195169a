//! The document has every call of the contract, and everything that it points at exists.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn document() -> Value {
    let (_, mut api) = super::super::routes().split_for_parts();
    complete(&mut api);
    serde_json::from_str(&text(&api)).unwrap()
}

/// Method, path and the credential's scheme, as the contract has them.
const CONTRACT: &[(&str, &str, Option<&str>)] = &[
    ("post", "/v1/stores", Some("admin_key")),
    ("get", "/v1/stores", Some("admin_key")),
    ("post", "/v1/stores/{id}/keys", Some("admin_key")),
    ("get", "/v1/stores/{id}/keys", Some("admin_key")),
    ("delete", "/v1/keys/{id}", Some("admin_key")),
    ("get", "/v1/audit", Some("admin_key")),
    ("post", "/v1/backups", Some("admin_key")),
    ("post", "/v1/servers", Some("publish_key")),
    ("get", "/v1/servers", Some("read_key")),
    ("get", "/v1/servers/{id}", Some("read_key")),
    ("patch", "/v1/servers/{id}", Some("publish_key")),
    ("delete", "/v1/servers/{id}", Some("publish_key")),
    ("post", "/v1/servers/{id}/token", Some("publish_key")),
    ("get", "/v1/servers/{id}/commands", Some("read_key")),
    ("post", "/v1/orders", Some("publish_key")),
    ("get", "/v1/orders/{id}", Some("read_key")),
    ("get", "/v1/commands/{id}", Some("read_key")),
    ("patch", "/v1/commands/{id}", Some("publish_key")),
    ("post", "/v1/commands/{id}/cancel", Some("publish_key")),
    ("post", "/v1/commands/{id}/resend", Some("publish_key")),
    ("post", "/v1/commands/resend", Some("publish_key")),
    ("get", "/v1/events", Some("read_key")),
    ("get", "/v1/plugin/commands", Some("server_token")),
    ("post", "/v1/plugin/results", Some("server_token")),
    ("post", "/v1/plugin/players", Some("server_token")),
    ("get", "/healthz", None),
    ("get", "/readyz", None),
    ("get", "/metrics", None),
    ("get", "/openapi.json", None),
    ("get", "/", None),
];

/// Every call of the document: method, path, operation.
fn calls(document: &Value) -> Vec<(String, String, Value)> {
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            calls.push((method.clone(), path.clone(), operation.clone()));
        }
    }
    calls
}

#[test]
fn the_document_has_the_calls_of_the_contract_and_no_others() {
    let document = document();
    let found: BTreeSet<(String, String, Option<String>)> = calls(&document)
        .into_iter()
        .map(|(method, path, operation)| {
            let scheme = operation["security"][0].as_object().and_then(|needs| needs.keys().next()).cloned();
            (method, path, scheme)
        })
        .collect();
    let expected: BTreeSet<(String, String, Option<String>)> = CONTRACT
        .iter()
        .map(|(method, path, scheme)| ((*method).to_owned(), (*path).to_owned(), scheme.map(str::to_owned)))
        .collect();
    assert_eq!(found, expected);
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                found.insert(reference.clone());
            }
            object.values().for_each(|inner| references(inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

#[test]
fn every_reference_resolves() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("references stay inside the document");
        assert!(document.pointer(pointer).is_some(), "{reference} points at nothing");
    }
}

#[test]
fn every_schema_is_used() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(found.contains(&format!("#/components/schemas/{name}")), "nothing refers to {name}");
    }
}

#[test]
fn every_scheme_that_a_call_names_exists() {
    let document = document();
    for (method, path, operation) in calls(&document) {
        let Some(needs) = operation["security"][0].as_object() else { continue };
        for scheme in needs.keys() {
            assert_eq!(
                document["components"]["securitySchemes"][scheme]["scheme"], "bearer",
                "{method} {path} {scheme}"
            );
        }
    }
}

#[test]
fn every_call_says_what_it_answers() {
    for (method, path, operation) in calls(&document()) {
        let call = format!("{method} {path}");
        assert!(operation["summary"].is_string(), "{call} has no summary");
        assert!(operation["operationId"].is_string(), "{call} has no operationId");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{call} never succeeds");
        for (status, response) in responses {
            let content = &response["content"];
            if status.starts_with(['4', '5']) {
                let schema = &content["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{call} {status}");
            } else if status != "204" {
                assert!(content.as_object().is_some_and(|types| !types.is_empty()), "{call} {status}");
            }
            let waits = matches!(status.as_str(), "429" | "503");
            assert_eq!(response["headers"]["Retry-After"].is_object(), waits, "{call} {status}");
        }
        if !operation["security"].is_null() {
            assert!(responses.contains_key("401") && responses.contains_key("503"), "{call}");
        }
        if operation["requestBody"].is_object() {
            for status in ["400", "413", "415", "422"] {
                assert!(responses.contains_key(status), "{call} {status}");
            }
        }
        assert_eq!(path.contains('{'), responses.contains_key("404"), "{call}");
    }
}

#[test]
fn bodies_have_examples_and_their_fields_are_described_by_a_schema() {
    let document = document();
    for (method, path, operation) in calls(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let Some(pointer) = schema.as_str().and_then(|reference| reference.strip_prefix('#')) else {
            continue;
        };
        let schema = document.pointer(pointer).unwrap();
        let example =
            schema["example"].as_object().unwrap_or_else(|| panic!("{method} {path} has no example"));
        for field in example.keys() {
            assert!(schema["properties"][field].is_object(), "{method} {path}: {field} is not in the schema");
        }
        for field in schema["required"].as_array().unwrap_or(&Vec::new()) {
            assert!(example.contains_key(field.as_str().unwrap()), "{method} {path}: {field} is missing");
        }
        assert_eq!(schema["additionalProperties"], false, "{method} {path} takes unknown fields");
    }
}
