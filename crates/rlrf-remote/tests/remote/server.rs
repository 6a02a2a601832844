//! A chat endpoint in this process that answers as a test wants, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Method and path, such as `POST /v1/chat/completions`.
    pub(crate) line: String,
    /// Headers, one a line, names in lower case.
    pub(crate) headers: String,
    /// The body; null where there is none.
    pub(crate) body: Value,
}

/// How it answers.
pub(crate) enum Answer {
    /// Status, further header lines, body.
    Reply(u16, &'static str, String),
    /// The connection is closed without a word.
    Hangup,
}

/// A chat completion with this text.
pub(crate) fn said(text: &str) -> Answer {
    let choice =
        json!({ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" });
    Answer::Reply(200, "", json!({ "object": "chat.completion", "choices": [choice] }).to_string())
}

/// An OpenAI error.
pub(crate) fn refused(status: u16, message: &str) -> Answer {
    Answer::Reply(status, "", json!({ "error": { "message": message } }).to_string())
}

/// A server on a free port; it stops with the process.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    busiest: Arc<AtomicUsize>,
}

impl Server {
    /// `answer` gets each request and how many came before it.
    pub(crate) fn start(answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, busiest) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (log, most, busy) = (Arc::clone(&asked), Arc::clone(&busiest), Arc::new(AtomicUsize::new(0)));
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, most, busy, answer) = (log.clone(), most.clone(), busy.clone(), answer.clone());
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(asked) = read_request(&mut reader) {
                        most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let before = {
                            let mut log = log.lock().unwrap();
                            log.push(asked.clone());
                            log.len() - 1
                        };
                        let answer = answer(&asked, before);
                        // Before the answer: its reader may at once send the next request.
                        busy.fetch_sub(1, Ordering::SeqCst);
                        if !write_answer(&stream, &answer) {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, asked, busiest }
    }

    /// The base address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Everything that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Most requests that were under way at one time.
    pub(crate) fn busiest(&self) -> usize {
        self.busiest.load(Ordering::SeqCst)
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_string();
    let (mut headers, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|&length| length > 0)?;
        if header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        let name = name.to_lowercase();
        if name == "content-length" {
            length = value.trim().parse().ok()?;
        }
        headers.push_str(&format!("{name}:{}\n", value.trim_end()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { line, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

fn write_answer(mut stream: &TcpStream, answer: &Answer) -> bool {
    match answer {
        Answer::Reply(status, headers, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n");
            stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).is_ok()
        }
        Answer::Hangup => {
            let _ = stream.shutdown(Shutdown::Both);
            false
        }
    }
}
