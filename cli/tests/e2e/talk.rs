//! A command that goes on: its events as they come, and what is typed into it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

use crate::world::PATIENCE;

/// A running `mesh --json`. Killed when dropped.
pub(crate) struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    events: Receiver<Value>,
    /// All events so far.
    pub(crate) said: Vec<Value>,
}

impl Talk {
    pub(crate) fn new(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (heard, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _gone = heard.send(serde_json::from_str(&line).unwrap_or(Value::Null));
            }
        });
        Self {
            child,
            stdin,
            events,
            said: Vec::new(),
        }
    }

    /// kill -9, as far as that is still possible.
    pub(crate) fn kill(&mut self) {
        let _gone = self.child.kill();
    }

    /// Waits for an event of this name.
    #[track_caller]
    pub(crate) fn until(&mut self, name: &str) -> Value {
        while let Some(event) = self.next(PATIENCE) {
            if event["event"] == name {
                return event;
            }
        }
        panic!(
            "it ended or hung without {name}, having said {:?}",
            self.said
        );
    }

    /// The next event within `time`; none if it has ended, or says nothing for so long.
    pub(crate) fn next(&mut self, time: Duration) -> Option<Value> {
        let event = self.events.recv_timeout(time).ok()?;
        self.said.push(event.clone());
        Some(event)
    }

    /// Types a line.
    pub(crate) fn enter(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Closes its standard input and waits for its end. Returns: the exit code.
    #[track_caller]
    pub(crate) fn end(&mut self) -> i32 {
        self.end_within(PATIENCE)
            .unwrap_or_else(|| panic!("it does not end, having said {:?}", self.said))
    }

    /// The same; none if it goes on for longer.
    pub(crate) fn end_within(&mut self, time: Duration) -> Option<i32> {
        self.stdin = None;
        loop {
            match self.events.recv_timeout(time) {
                Ok(event) => self.said.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return None,
            }
        }
        let status = self.child.wait().unwrap();
        Some(status.code().unwrap_or(-1))
    }

    /// What it said, in a line a piece: for whoever reads the test's output. Secrets of a pairing that is over are no secrets.
    pub(crate) fn story(&self) -> Vec<String> {
        let short = |event: &Value| {
            let mut event = event.clone();
            if let Some(fields) = event.as_object_mut() {
                fields.remove("v");
                fields.remove("ticket");
                fields.remove("addresses");
            }
            event.to_string()
        };
        self.said.iter().map(short).collect()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
