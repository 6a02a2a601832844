//! The wire format of chat completions: what is sent, and what may come back.

use rlrf_method::config::Sampling;
use rlrf_method::seam::Generated;
use rlrf_method::{Message, Role};
use serde_json::{Map, Value, json};

/// One request for one response. `top_k` and `min_p` are extensions (of vLLM, SGLang, llama.cpp): sent only when set.
pub(crate) fn request(model: &str, messages: &[Message], sampling: &Sampling, stream: u64) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("messages".into(), conversation(messages));
    body.insert("temperature".into(), decimal(sampling.temperature));
    body.insert("top_p".into(), decimal(sampling.top_p));
    body.insert("max_tokens".into(), sampling.max_new_tokens.into());
    body.insert("n".into(), 1.into());
    // Servers keep the seed as a signed 32-bit or 64-bit number: 31 bits suit all.
    body.insert("seed".into(), (stream & 0x7fff_ffff).into());
    if !sampling.stop.is_empty() {
        body.insert("stop".into(), json!(sampling.stop));
    }
    if sampling.top_k > 0 {
        body.insert("top_k".into(), sampling.top_k.into());
    }
    if sampling.min_p > 0.0 {
        body.insert("min_p".into(), decimal(sampling.min_p));
    }
    Value::Object(body)
}

/// A conversation as it is sent.
pub(crate) fn conversation(messages: &[Message]) -> Value {
    messages.iter().map(message).collect()
}

fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    json!({ "role": role, "content": message.content })
}

/// 0.95 as 0.95, not as the nearest `f32` written out.
fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// What a reply with HTTP status 200 turned out to be.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply<T> {
    /// What was asked for.
    Response(T),
    /// Not a response, as this says; another attempt may bring one.
    Garbage(String),
    /// Not a response, as this says, and no attempt will bring one.
    Unusable(String),
}

/// Reads a reply. A response that was cut before any text began is empty and incomplete; a refusal is a response.
pub(crate) fn read_reply(body: &[u8]) -> Reply<Generated> {
    let reply: Value = match serde_json::from_slice(body) {
        Ok(reply) => reply,
        Err(_) => return Reply::Garbage(format!("the reply is not JSON: {}", excerpt(body))),
    };
    let Some(choice) = reply["choices"].as_array().and_then(|choices| choices.first()) else {
        let message = match &reply["error"] {
            Value::Null => format!("the reply has no choices: {}", excerpt(body)),
            error => format!("the reply is an error: {}", excerpt(error.to_string().as_bytes())),
        };
        return Reply::Garbage(message);
    };
    let Some(message) = choice["message"].as_object() else {
        return Reply::Garbage(format!("the reply's choice has no message: {}", excerpt(body)));
    };
    let finish = choice["finish_reason"].as_str();
    let complete = !matches!(finish, Some("length" | "content_filter"));
    let text = text_of(message.get("content")).or_else(|| text_of(message.get("refusal")));
    let calls = message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty())
        || message.get("function_call").is_some_and(Value::is_object);
    let text = match text {
        Some(text) if !(text.is_empty() && calls) => text,
        _ if calls => {
            return Reply::Unusable(
                "the model answers with tool calls instead of text: start the server without automatic tool choice"
                    .into(),
            );
        }
        Some(_) => String::new(),
        // A model that reasons apart from its answer may be cut, or end, before the answer begins.
        None if finish.is_some() => String::new(),
        None => return Reply::Garbage(format!("the reply's message has no content: {}", excerpt(body))),
    };
    Reply::Response(Generated { text, tokens: Vec::new(), logprob: logprob(choice), complete })
}

/// Content is text, or parts of which some are text.
fn text_of(content: Option<&Value>) -> Option<String> {
    match content? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part["text"].as_str()).collect()),
        _ => None,
    }
}

/// The sum over the tokens, where the server tells all of them.
fn logprob(choice: &Value) -> Option<f64> {
    let tokens = choice["logprobs"]["content"].as_array().filter(|tokens| !tokens.is_empty())?;
    tokens.iter().map(|token| token["logprob"].as_f64()).sum()
}

/// What a server says in an error: its message where there is one, else how its page begins.
pub(crate) fn error_detail(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = if parsed["error"].is_null() { &parsed } else { &parsed["error"] };
    let said = [&error["message"], &error["detail"], error].into_iter().find_map(Value::as_str);
    match said {
        Some(message) => excerpt(message.as_bytes()),
        None => excerpt(body),
    }
}

/// The error's code or type, such as `insufficient_quota`.
pub(crate) fn error_code(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &parsed["error"];
    [&error["code"], &error["type"]].into_iter().find_map(Value::as_str).unwrap_or_default().to_string()
}

/// The beginning of a text from outside, on one line and without control characters.
pub(crate) fn excerpt(body: &[u8]) -> String {
    const LENGTH: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(8 * LENGTH)]);
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None if line.is_empty() => "nothing".into(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str, complete: bool) -> Reply<Generated> {
        Reply::Response(Generated { text: text.into(), tokens: Vec::new(), logprob: None, complete })
    }

    #[test]
    fn sampling_is_sent_as_it_was_written() {
        let messages = [Message { role: Role::User, content: "Why?".into() }];
        let sampling = Sampling { temperature: 0.7, top_p: 0.95, ..Sampling::greedy(64) };
        let sent = request("m", &messages, &sampling, 0xffff_ffff_8000_0005);
        let expected = json!({
            "model": "m", "messages": [{ "role": "user", "content": "Why?" }], "temperature": 0.7, "top_p": 0.95,
            "max_tokens": 64, "n": 1, "seed": 5,
        });
        assert_eq!(sent, expected);
        let sampling = Sampling { top_k: 20, min_p: 0.05, stop: vec!["\n\n".into()], ..sampling };
        let sent = request("m", &messages, &sampling, 1);
        assert_eq!(
            (&sent["top_k"], &sent["min_p"], &sent["stop"]),
            (&json!(20), &json!(0.05), &json!(["\n\n"]))
        );
    }

    #[test]
    fn every_kind_of_reply_is_told_apart() {
        let reply = |choice: Value| read_reply(json!({ "choices": [choice] }).to_string().as_bytes());
        let said = |content: Value, finish: Value| {
            reply(json!({ "message": { "content": content }, "finish_reason": finish }))
        };
        assert_eq!(said(json!("yes"), json!("stop")), response("yes", true));
        assert_eq!(said(json!("yes"), json!("length")), response("yes", false));
        assert_eq!(said(json!("yes"), json!("eos_token")), response("yes", true));
        assert_eq!(said(json!("yes"), Value::Null), response("yes", true));
        assert_eq!(said(json!(""), json!("stop")), response("", true));
        assert_eq!(said(Value::Null, json!("length")), response("", false));
        assert_eq!(
            said(json!([{ "type": "text", "text": "ye" }, { "text": "s" }]), json!("stop")),
            response("yes", true)
        );
        let refused = json!({ "message": { "content": null, "refusal": "No." }, "finish_reason": "stop" });
        assert_eq!(reply(refused), response("No.", true));
        let told = json!({ "message": { "content": "a b" }, "logprobs": { "content": [{ "logprob": -0.5 }, { "logprob": -1.25 }] } });
        assert!(matches!(reply(told), Reply::Response(Generated { logprob: Some(-1.75), .. })));
        let call = json!({ "message": { "content": null, "tool_calls": [{ "id": "1" }] }, "finish_reason": "tool_calls" });
        assert!(matches!(reply(call), Reply::Unusable(message) if message.contains("tool calls")));
        for (body, expected) in [
            ("<html><body>\n<h1>Bad gateway</h1>", "not JSON: <html><body> <h1>Bad gateway</h1>"),
            ("", "not JSON: nothing"),
            ("{\"choices\": []}", "no choices"),
            ("[1]", "no choices"),
            ("null", "no choices"),
            ("{\"choices\": 3}", "no choices"),
            ("{\"error\": {\"message\": \"out of memory\"}}", "an error: {\"message\":\"out of memory\"}"),
            ("{\"choices\": [{\"text\": \"x\"}]}", "no message"),
            ("{\"choices\": [{\"message\": {\"content\": 7}}]}", "no content"),
        ] {
            assert!(
                matches!(read_reply(body.as_bytes()), Reply::Garbage(message) if message.contains(expected)),
                "{body}"
            );
        }
    }

    #[test]
    fn errors_are_read_in_every_dialect() {
        for (body, expected) in [
            (r#"{"error": {"message": "no such model", "code": "model_not_found"}}"#, "no such model"),
            (r#"{"error": "no such model"}"#, "no such model"),
            (r#"{"object": "error", "message": "no such model"}"#, "no such model"),
            (r#"{"detail": "no such model"}"#, "no such model"),
            ("no such\u{1b}[31m model", "no such [31m model"),
            (r#"{"code": 5}"#, r#"{"code": 5}"#),
        ] {
            assert_eq!(error_detail(body.as_bytes()), expected);
        }
        assert_eq!(error_code(br#"{"error": {"code": "insufficient_quota"}}"#), "insufficient_quota");
        assert_eq!(excerpt("é".repeat(300).as_bytes()), format!("{}...", "é".repeat(200)));
    }
}
