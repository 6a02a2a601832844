//! The wire format of a choice among a few answers: the probabilities of the first token of the answer.

use rlrf_method::seam::ChoiceRequest;
use serde_json::{Value, json};

use crate::chat::{Reply, conversation, excerpt};

/// So many of the most probable tokens are asked for: the most that all servers give.
const TOKENS: u32 = 20;

/// One token is asked for, drawn as the model is: probabilities at another temperature would not be the model's own.
pub(crate) fn request(model: &str, request: &ChoiceRequest) -> Value {
    json!({
        "model": model, "messages": conversation(&request.messages), "temperature": 1.0, "top_p": 1.0,
        "max_tokens": 1, "n": 1, "logprobs": true, "top_logprobs": TOKENS,
    })
}

/// The probabilities of `options`, 1 in all; empty where none of them is among the tokens told. `None` if the server
/// tells no tokens.
pub(crate) fn read_reply(body: &[u8], options: &[String]) -> Reply<Option<Vec<f64>>> {
    let reply: Value = match serde_json::from_slice(body) {
        Ok(reply) => reply,
        Err(_) => return Reply::Garbage(format!("the reply is not JSON: {}", excerpt(body))),
    };
    let Some(choice) = reply["choices"].as_array().and_then(|choices| choices.first()) else {
        return Reply::Garbage(format!("the reply has no choices: {}", excerpt(body)));
    };
    let told =
        choice["logprobs"]["content"][0]["top_logprobs"].as_array().filter(|tokens| !tokens.is_empty());
    Reply::Response(told.map(|tokens| probabilities(tokens, options)))
}

/// A token counts for the option that begins with it; one that begins several tells nothing.
fn probabilities(tokens: &[Value], options: &[String]) -> Vec<f64> {
    let mut sums = vec![0.0; options.len()];
    for token in tokens {
        let (Some(text), Some(logprob)) = (token["token"].as_str(), token["logprob"].as_f64()) else {
            continue;
        };
        let text = text.trim();
        let mut begun = (0..options.len()).filter(|&option| {
            !text.is_empty()
                && (options[option].starts_with(text) || text.starts_with(options[option].as_str()))
        });
        if let (Some(option), None) = (begun.next(), begun.next()) {
            sums[option] += logprob.exp();
        }
    }
    let total: f64 = sums.iter().sum();
    if !total.is_finite() || total <= 0.0 {
        return Vec::new();
    }
    sums.iter().map(|sum| sum / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tokens: &[(&str, f64)], options: [&str; 2]) -> Reply<Option<Vec<f64>>> {
        let tokens: Vec<Value> =
            tokens.iter().map(|(token, share)| json!({ "token": token, "logprob": share.ln() })).collect();
        let content = json!([{ "token": "x", "logprob": -1.0, "top_logprobs": tokens }]);
        let reply =
            json!({ "choices": [{ "message": { "content": null }, "logprobs": { "content": content } }] });
        read_reply(reply.to_string().as_bytes(), &options.map(String::from))
    }

    #[test]
    fn tokens_count_for_the_option_that_they_begin() {
        let told = |tokens: &[(&str, f64)], options| match read(tokens, options) {
            Reply::Response(Some(found)) => {
                found.iter().map(|share| (share * 1e6).round() / 1e6).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let tokens = [
            ("True", 0.3),
            (" True", 0.2),
            ("Tr", 0.1),
            ("False", 0.1),
            (" ", 0.1),
            ("true", 0.1),
            ("False.", 0.1),
        ];
        assert_eq!(told(&tokens, ["True", "False"]), [0.75, 0.25]);
        assert_eq!(told(&tokens, ["False", "True"]), [0.25, 0.75]);
        assert_eq!(told(&[("T", 0.5), ("Tie", 0.1)], ["True", "Tie"]), [0.0, 1.0]);
        assert_eq!(told(&[("The", 0.9)], ["True", "False"]), [0.0; 0]);
        assert_eq!(told(&[("True", 0.0)], ["True", "False"]), [0.0; 0]);
    }

    #[test]
    fn a_server_that_tells_nothing_is_known_from_garbage() {
        for body in [
            r#"{"choices": [{"message": {"content": "True"}}]}"#,
            r#"{"choices": [{"message": {"content": "True"}, "logprobs": null}]}"#,
            r#"{"choices": [{"logprobs": {"content": []}}]}"#,
            r#"{"choices": [{"logprobs": {"content": [{"token": "True", "logprob": -0.1, "top_logprobs": []}]}}]}"#,
        ] {
            assert_eq!(read_reply(body.as_bytes(), &["True".into()]), Reply::Response(None), "{body}");
        }
        for body in ["<html>", "{}", r#"{"choices": []}"#] {
            assert!(matches!(read_reply(body.as_bytes(), &["True".into()]), Reply::Garbage(_)), "{body}");
        }
    }
}
