//! The policy against servers that behave, misbehave, and fall over.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod server;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rlrf_method::config::Sampling;
use rlrf_method::seam::{ChoiceRequest, Generated, GenerationRequest, Policy};
use rlrf_method::{Error, Message, Result, Role};
use rlrf_remote::{ApiKey, RemoteOptions, RemotePolicy, base_urls, served_model};
use serde_json::{Value, json};
use server::{Answer, Asked, Server, refused, said};

fn options() -> RemoteOptions {
    RemoteOptions {
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        key: ApiKey::new("sk-very-secret"),
        ..RemoteOptions::default()
    }
}

fn policy(servers: &[&Server], options: &RemoteOptions) -> RemotePolicy {
    let list: Vec<String> = servers.iter().map(|server| server.url()).collect();
    RemotePolicy::new(base_urls(&list.join(",")).unwrap(), "m", options).unwrap()
}

/// So many questions, "0", "1", ..., with two streams each.
fn questions(count: usize) -> Vec<GenerationRequest> {
    let question = |index: usize| GenerationRequest {
        messages: vec![Message { role: Role::User, content: index.to_string() }],
        streams: vec![1, (1 << 40) + 2],
        sampling: Sampling::greedy(16),
    };
    (0..count).map(question).collect()
}

/// All answers, in whatever order they came.
fn ask(
    policy: &mut RemotePolicy,
    requests: &[GenerationRequest],
) -> Result<BTreeSet<(usize, usize, String)>> {
    let mut answers = BTreeSet::new();
    policy.generate(requests, &mut |request, stream, generated: Generated| {
        assert!(answers.insert((request, stream, generated.text)), "delivered twice");
        Ok(())
    })?;
    Ok(answers)
}

fn expected(count: usize) -> BTreeSet<(usize, usize, String)> {
    (0..count)
        .flat_map(|question| [1, 2].map(|seed| (question, seed - 1, format!("{question}/{seed}"))))
        .collect()
}

/// Repeats the question and the seed.
fn echo(asked: &Asked) -> Answer {
    let question = asked.body["messages"][0]["content"].as_str().unwrap_or_default();
    said(&format!("{question}/{}", asked.body["seed"]))
}

fn failure(answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> (String, usize) {
    let server = Server::start(answer);
    let error = ask(&mut policy(&[&server], &options()), &questions(1)).unwrap_err();
    (error.to_string(), server.asked().len())
}

#[test]
fn every_stream_is_asked_once_and_no_more_at_a_time_than_allowed() {
    let server = Server::start(|asked, _| {
        sleep(Duration::from_millis(20));
        echo(asked)
    });
    let mut policy = policy(&[&server], &RemoteOptions { in_flight: 5, ..options() });
    assert_eq!(ask(&mut policy, &questions(20)).unwrap(), expected(20));
    assert_eq!(server.busiest(), 5);
    let asked = server.asked();
    assert_eq!(asked.len(), 40);
    assert!(asked[0].headers.contains("authorization: Bearer sk-very-secret"));
    assert_eq!((asked[0].line.as_str(), &asked[0].body["model"]), ("POST /v1/chat/completions", &json!("m")));
}

#[test]
fn what_may_pass_is_tried_again() {
    let server = Server::start(|asked, before| match before {
        0 => refused(429, "slow down"),
        1 => refused(500, "out of memory"),
        2 => Answer::Reply(502, "", "<html><h1>Bad gateway</h1></html>".into()),
        3 => Answer::Hangup,
        4 => Answer::Reply(200, "", "<html>maintenance</html>".into()),
        5 => Answer::Reply(200, "", json!({ "choices": [] }).to_string()),
        _ => echo(asked),
    });
    let options = RemoteOptions { in_flight: 1, ..options() };
    assert_eq!(ask(&mut policy(&[&server], &options), &questions(2)).unwrap(), expected(2));
    assert_eq!(server.asked().len(), 4 + 6);
}

#[test]
fn nobody_comes_back_before_the_server_wants() {
    let server = Server::start(|asked, before| match before {
        0 => Answer::Reply(429, "retry-after: 1\r\n", "{}".into()),
        _ => echo(asked),
    });
    let started = Instant::now();
    let options = RemoteOptions { in_flight: 1, ..options() };
    assert_eq!(ask(&mut policy(&[&server], &options), &questions(1)).unwrap(), expected(1));
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.asked().len(), 3);

    let (message, asked) = failure(|_, _| Answer::Reply(503, "retry-after: 86400\r\n", "{}".into()));
    assert!(message.contains("come back in 86400 s"), "{message}");
    assert!(asked <= 2, "{asked}");
}

#[test]
fn a_rate_limit_is_waited_out_however_long_the_queue() {
    // One request in two is turned away: far more setbacks than one request may have attempts.
    let server = Server::start(
        |asked, before| if before.is_multiple_of(2) { refused(429, "limit") } else { echo(asked) },
    );
    let options = RemoteOptions { attempts: 3, first_wait: Duration::from_millis(1), ..options() };
    assert_eq!(ask(&mut policy(&[&server], &options), &questions(30)).unwrap(), expected(30));
}

#[test]
fn a_fleet_shares_the_work_and_survives_the_loss_of_a_server() {
    let slow = |asked: &Asked, _: usize| {
        sleep(Duration::from_millis(5));
        echo(asked)
    };
    let (first, second) = (Server::start(slow), Server::start(slow));
    let down = Server::start(|_, _| Answer::Hangup);
    let mut policy = policy(&[&first, &down, &second], &RemoteOptions { in_flight: 4, ..options() });
    assert_eq!(ask(&mut policy, &questions(50)).unwrap(), expected(50));
    let (first, second, down) = (first.asked().len(), second.asked().len(), down.asked().len());
    assert_eq!(first + second, 100);
    assert!(first > 20 && second > 20, "{first} and {second}");
    assert!(down < 50, "left alone, it was asked {down} times");
}

#[test]
fn a_server_that_comes_back_works_again() {
    let back = Server::start(|asked, before| if before < 3 { refused(503, "loading") } else { echo(asked) });
    let other = Server::start(|asked, _| {
        sleep(Duration::from_millis(20));
        echo(asked)
    });
    let mut policy = policy(&[&back, &other], &RemoteOptions { in_flight: 2, ..options() });
    assert_eq!(ask(&mut policy, &questions(40)).unwrap(), expected(40));
    assert!(back.asked().len() > 20, "{}", back.asked().len());
}

#[test]
fn what_cannot_pass_ends_at_once_and_says_what_to_do() {
    for (status, said, expected) in [
        (401, "Incorrect API key provided: sk-very-secret", "check the value of RLRF_API_KEY"),
        (404, "The model `m` does not exist", "check the model's name"),
        (400, "temperature must be non-negative", "\"temperature must be non-negative\""),
        (
            400,
            "This model's maximum context length is 64 tokens",
            "the prompt \"0\"... is too long for the model's context",
        ),
        (405, "Method Not Allowed", "not that of an OpenAI-compatible chat endpoint"),
    ] {
        let (message, asked) = failure(move |_, _| refused(status, said));
        let status = format!("HTTP {status}");
        for part in ["http://127.0.0.1:", "/v1/chat/completions", "\"m\"", status.as_str(), expected] {
            assert!(message.contains(part), "{message} lacks {part}");
        }
        assert!(!message.contains("secret"), "{message}");
        assert!(asked <= 2, "asked {asked} times");
    }
    let (message, _) =
        failure(|_, _| Answer::Reply(307, "location: https://elsewhere/v1\r\n", String::new()));
    assert!(message.contains("it redirects to https://elsewhere/v1"), "{message}");
    let quota = json!({ "error": { "message": "You exceeded your quota", "code": "insufficient_quota" } })
        .to_string();
    let (message, _) = failure(move |_, _| Answer::Reply(429, "", quota.clone()));
    assert!(message.contains("no credit left"), "{message}");
    let call = json!({ "choices": [{ "message": { "content": null, "tool_calls": [{}] } }] }).to_string();
    let (message, _) = failure(move |_, _| Answer::Reply(200, "", call.clone()));
    assert!(message.contains("without automatic tool choice"), "{message}");
}

#[test]
fn without_a_key_the_error_says_that_none_was_sent() {
    let server = Server::start(|_, _| refused(401, "You didn't provide an API key"));
    let mut policy = policy(&[&server], &RemoteOptions { key: None, ..options() });
    let message = ask(&mut policy, &questions(1)).unwrap_err().to_string();
    assert!(message.contains("none is set") && message.contains("set RLRF_API_KEY"), "{message}");
    assert!(!server.asked()[0].headers.contains("authorization"));
}

#[test]
fn what_does_not_pass_is_given_up() {
    for (answer, expected) in [
        (Answer::Reply(200, "", "<html>sk-very-secret".into()), "the reply is not JSON: <html>[key]"),
        (Answer::Reply(200, "", json!({ "error": { "message": "engine died" } }).to_string()), "engine died"),
        (Answer::Reply(200, "", "{\"choices\": [{\"message\": {}}]}".into()), "no content"),
        (Answer::Reply(500, "", String::new()), "HTTP 500"),
    ] {
        let Answer::Reply(status, headers, body) = answer else { unreachable!() };
        let (message, _) = failure(move |_, _| Answer::Reply(status, headers, body.clone()));
        assert!(message.contains("no success in 8 attempts") && message.contains(expected), "{message}");
    }
    let (message, asked) = failure(|_, _| Answer::Hangup);
    assert!(message.contains("no success in 8 attempts") && message.contains("connection"), "{message}");
    assert!(asked >= 8, "{asked}");
    let nobody = base_urls("http://127.0.0.1:1/v1").unwrap();
    let mut policy = RemotePolicy::new(nobody, "m", &options()).unwrap();
    let message = ask(&mut policy, &questions(1)).unwrap_err().to_string();
    assert!(message.contains("cannot connect") && message.contains("see that the server is up"), "{message}");
}

#[test]
fn a_reply_that_does_not_come_in_time_is_asked_for_again() {
    let server = Server::start(|asked, before| {
        if before == 0 {
            sleep(Duration::from_secs(3));
        }
        echo(asked)
    });
    let mut policy =
        policy(&[&server], &RemoteOptions { timeout: Duration::from_secs(1), in_flight: 1, ..options() });
    assert_eq!(ask(&mut policy, &questions(1)).unwrap(), expected(1));
    assert_eq!(server.asked().len(), 3);
}

/// Answers the first question, and keeps the others waiting for longer than a test may take.
fn stuck_after_the_first(asked: &Asked, before: usize) -> Answer {
    if before > 0 {
        sleep(Duration::from_secs(600));
    }
    echo(asked)
}

#[test]
fn a_sink_that_fails_stops_everything_at_once() {
    let server = Server::start(stuck_after_the_first);
    let mut policy = policy(&[&server], &options());
    let stopped = policy.generate(&questions(100), &mut |_, _, _| Err(Error::Interrupted));
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert!(server.asked().len() <= 33, "nothing new was begun");
}

#[test]
fn a_wish_to_stop_is_noticed_while_nothing_comes() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let server = Server::start(stuck_after_the_first);
    let mut policy =
        policy(&[&server], &RemoteOptions { interrupted: || STOP.load(Ordering::SeqCst), ..options() });
    let mut delivered = 0;
    let stopped = policy.generate(&questions(3), &mut |_, _, _| {
        delivered += 1;
        STOP.store(true, Ordering::SeqCst);
        Ok(())
    });
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert_eq!(delivered, 1);
}

#[test]
fn identity_is_the_served_name_wherever_it_runs() {
    let digest = |list: &str, model: &str| {
        RemotePolicy::new(base_urls(list).unwrap(), model, &options()).unwrap().digest()
    };
    assert_eq!(digest("http://a/v1", "m"), digest("http://b:8000/v1,http://c/v1", "m"));
    assert_ne!(digest("http://a/v1", "m"), digest("http://a/v1", "n"));
    assert!(RemotePolicy::new(Vec::new(), "m", &options()).is_err());
    assert!(
        RemotePolicy::new(base_urls("http://a").unwrap(), "m", &RemoteOptions { in_flight: 0, ..options() })
            .is_err()
    );
}

#[test]
fn the_only_model_served_needs_no_name() {
    let serving = |names: &'static [&str]| {
        Server::start(move |asked, _| {
            assert_eq!(asked.line, "GET /v1/models");
            let data: Vec<Value> = names.iter().map(|name| json!({ "id": name })).collect();
            Answer::Reply(200, "", json!({ "object": "list", "data": data }).to_string())
        })
    };
    let named = |servers: &[&Server]| {
        let list: Vec<String> = servers.iter().map(|server| server.url()).collect();
        served_model(&base_urls(&list.join(",")).unwrap(), &options()).map_err(|error| error.to_string())
    };
    let (one, same, other, two, none) =
        (serving(&["a"]), serving(&["a"]), serving(&["b"]), serving(&["a", "b"]), serving(&[]));
    let (down, wary) =
        (Server::start(|_, _| Answer::Hangup), Server::start(|_, _| refused(401, "sk-very-secret is wrong")));
    assert_eq!(named(&[&one, &down, &same]).unwrap(), "a");
    for (servers, expected) in [
        (vec![&two], "serves several models: choose one with --model-name: \"a\", \"b\""),
        (vec![&none], "lists no model"),
        (vec![&one, &other], "all servers must serve the same model"),
        (vec![&down], "cannot ask for the model's name"),
        (vec![&wary], "does not accept the API key"),
    ] {
        let message = named(&servers).unwrap_err();
        assert!(message.contains(expected) && !message.contains("secret"), "{message}");
    }
}

/// Which of "True" and "False" the server prefers, for so many questions; none if it does not tell.
fn choose(server: &Server, count: usize) -> Result<Option<Vec<Vec<f64>>>> {
    let question = |index: usize| ChoiceRequest {
        messages: vec![Message { role: Role::User, content: index.to_string() }],
        options: ["True", "False"].map(String::from).to_vec(),
    };
    let questions: Vec<ChoiceRequest> = (0..count).map(question).collect();
    let mut found = vec![Vec::new(); count];
    let told = policy(&[server], &options()).choose(&questions, &mut |index, probabilities| {
        found[index] = probabilities;
        Ok(())
    })?;
    Ok(told.then_some(found))
}

#[test]
fn a_choice_is_read_off_the_first_token_where_the_server_tells_it() {
    let telling = Server::start(|asked, _| {
        assert_eq!((&asked.body["logprobs"], &asked.body["max_tokens"]), (&json!(true), &json!(1)));
        let odd = asked.body["messages"][0]["content"].as_str().unwrap().parse::<u32>().unwrap() % 2;
        let (likely, unlikely) = if odd == 1 { ("True", "False") } else { ("False", "True") };
        let token = |token: &str, share: f64| json!({ "token": token, "logprob": share.ln() });
        let content =
            json!([{ "top_logprobs": [token(likely, 0.6), token("The", 0.2), token(unlikely, 0.2)] }]);
        let choice = json!({ "message": { "content": likely }, "logprobs": { "content": content } });
        Answer::Reply(200, "", json!({ "choices": [choice] }).to_string())
    });
    let found = choose(&telling, 9).unwrap().unwrap();
    for (question, probabilities) in found.iter().enumerate() {
        let expected = if question % 2 == 1 { 0.75 } else { 0.25 };
        assert!(
            (probabilities[0] - expected).abs() < 1e-12 && (probabilities[1] + expected - 1.0).abs() < 1e-12
        );
    }
    assert_eq!(telling.asked().len(), 9);

    let silent = Server::start(|asked, _| echo(asked));
    assert_eq!(choose(&silent, 9).unwrap(), None);
    assert_eq!(silent.asked().len(), 1, "one question finds it out");
    let ignorant = Server::start(|_, _| refused(400, "unknown field: `top_logprobs`"));
    assert_eq!(choose(&ignorant, 9).unwrap(), None);
    let broken = Server::start(|_, _| refused(404, "no such model"));
    assert!(choose(&broken, 9).is_err());
}
