//! The one table of what the API answers to. Dispatch, the `Allow` of a wrong method and the description all come from it.

use hyper::Method;

use super::uri;
use crate::command::{CommandError, Kind};

/// What a route does; `calls` has the matching arm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Status,
    Devices,
    Spaces,
    Add,
    Leave,
    Scan,
    Mode,
    Continue,
    Revert,
    Items,
    Ignore,
    IgnoreChange,
    IgnoreTest,
    Conflicts,
    Resolve,
    Pause,
    Resume,
    Limits,
    SetLimits,
    Rename,
    Block,
    Why,
    Doctor,
    Trash,
    Restore,
    EmptyTrash,
    History,
    RevertTo,
    Undo,
    Log,
    VerifyLog,
    Wait,
    Pair,
    Confirm,
    Down,
    Events,
    OpenApi,
}

/// One thing the API answers to.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) call: Call,
    pub(super) summary: &'static str,
    /// The schema of the body, where one is read.
    pub(super) request: Option<&'static str>,
    /// The schema of the answer.
    pub(super) reply: &'static str,
    /// Whether the answer is a stream of lines.
    pub(super) stream: bool,
    /// What the query may name.
    pub(super) query: &'static [&'static str],
}

impl Route {
    const fn new(
        method: Method,
        path: &'static str,
        call: Call,
        reply: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            call,
            summary,
            request: None,
            reply,
            stream: false,
            query: &[],
        }
    }

    const fn body(mut self, schema: &'static str) -> Self {
        self.request = Some(schema);
        self
    }

    const fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    const fn lines(mut self) -> Self {
        self.stream = true;
        self
    }
}

/// Everything the API answers to.
pub(super) static ROUTES: [Route; 37] = [
    Route::new(
        Method::GET,
        "/v1/status",
        Call::Status,
        "Status",
        "This device, the others, the spaces taken part in",
    ),
    Route::new(
        Method::GET,
        "/v1/devices",
        Call::Devices,
        "Devices",
        "The devices of the mesh",
    ),
    Route::new(
        Method::GET,
        "/v1/spaces",
        Call::Spaces,
        "Spaces",
        "The spaces of the mesh, joined here or not",
    ),
    Route::new(
        Method::POST,
        "/v1/spaces",
        Call::Add,
        "AddReply",
        "Makes a space of a folder, or joins the one of that name",
    )
    .body("AddRequest"),
    Route::new(
        Method::DELETE,
        "/v1/spaces/{NAME}",
        Call::Leave,
        "Done",
        "Leaves a space; the files stay",
    ),
    Route::new(
        Method::POST,
        "/v1/spaces/{NAME}/scan",
        Call::Scan,
        "Done",
        "Looks at the disk now; answers when that has ended",
    ),
    Route::new(
        Method::POST,
        "/v1/spaces/{NAME}/mode",
        Call::Mode,
        "Done",
        "Changes how this device takes part",
    )
    .body("ModeRequest"),
    Route::new(
        Method::POST,
        "/v1/spaces/{NAME}/continue",
        Call::Continue,
        "Done",
        "Lets a stopped space go on",
    ),
    Route::new(
        Method::POST,
        "/v1/spaces/{NAME}/revert",
        Call::Revert,
        "Done",
        "Brings back what a stopped space would lose",
    ),
    Route::new(
        Method::GET,
        "/v1/spaces/{NAME}/items",
        Call::Items,
        "Items",
        "The items of a space below a path",
    )
    .query(&["path", "recursive"]),
    Route::new(
        Method::GET,
        "/v1/spaces/{NAME}/ignore",
        Call::Ignore,
        "Ignore",
        "The ignore rules in force",
    ),
    Route::new(
        Method::POST,
        "/v1/spaces/{NAME}/ignore",
        Call::IgnoreChange,
        "IgnoreChanged",
        "Adds an ignore rule, or takes one out; answers when that holds",
    )
    .body("IgnoreChange"),
    Route::new(
        Method::POST,
        "/v1/spaces/{NAME}/ignore/test",
        Call::IgnoreTest,
        "IgnoreTested",
        "Says what the ignore rules do with a path, and what a pattern would do; changes nothing",
    )
    .body("IgnoreTest"),
    Route::new(
        Method::GET,
        "/v1/conflicts",
        Call::Conflicts,
        "Conflicts",
        "The open conflicts, or the one that is named; with diff=1 how each copy here differs from the file",
    )
    .query(&["item", "diff"]),
    Route::new(
        Method::POST,
        "/v1/conflicts/resolve",
        Call::Resolve,
        "Done",
        "Settles a conflict, for all devices",
    )
    .body("ResolveRequest"),
    Route::new(
        Method::GET,
        "/v1/why",
        Call::Why,
        "Why",
        "Everything known about one path: absolute, or below the root of the space that is named",
    )
    .query(&["path", "space"]),
    Route::new(
        Method::GET,
        "/v1/doctor",
        Call::Doctor,
        "Doctor",
        "Checks this device and its surroundings; each finding names its remedy",
    ),
    Route::new(
        Method::POST,
        "/v1/pause",
        Call::Pause,
        "SpacesReply",
        "Makes a space wait, or all: it neither scans nor sends nor takes in",
    )
    .body("PauseRequest"),
    Route::new(
        Method::POST,
        "/v1/resume",
        Call::Resume,
        "SpacesReply",
        "Lets a paused space go on, or all",
    )
    .body("ResumeRequest"),
    Route::new(
        Method::GET,
        "/v1/limits",
        Call::Limits,
        "LimitsNow",
        "How fast this device may be, and whether that applies now",
    ),
    Route::new(
        Method::POST,
        "/v1/limits",
        Call::SetLimits,
        "LimitsNow",
        "Puts other limits in place of all there were",
    )
    .body("Limits"),
    Route::new(
        Method::POST,
        "/v1/devices/rename",
        Call::Rename,
        "Done",
        "Gives a device another name, everywhere",
    )
    .body("RenameRequest"),
    Route::new(
        Method::POST,
        "/v1/devices/block",
        Call::Block,
        "Done",
        "Stops talking to a device, or talks to it again; on this device alone",
    )
    .body("BlockRequest"),
    Route::new(
        Method::GET,
        "/v1/trash",
        Call::Trash,
        "Trash",
        "What lies in the trash here, oldest first",
    )
    .query(&["space"]),
    Route::new(
        Method::POST,
        "/v1/trash/restore",
        Call::Restore,
        "RestoreReply",
        "Takes something out of the trash; nothing is written over",
    )
    .body("RestoreRequest"),
    Route::new(
        Method::POST,
        "/v1/trash/empty",
        Call::EmptyTrash,
        "EmptyReply",
        "Counts, or removes for good, what lies in the trash here",
    )
    .body("EmptyRequest"),
    Route::new(
        Method::GET,
        "/v1/history",
        Call::History,
        "HistoryReply",
        "The versions of what stands, or stood, at a path; newest first",
    )
    .query(&["path"]),
    Route::new(
        Method::POST,
        "/v1/history/restore",
        Call::RevertTo,
        "RestoreReply",
        "Makes an item, or a new one, what it was at a version",
    )
    .body("RevertRequest"),
    Route::new(
        Method::POST,
        "/v1/undo",
        Call::Undo,
        "UndoReply",
        "Shows, or does, what undoes a device's changes; what others changed later stays",
    )
    .body("UndoRequest"),
    Route::new(
        Method::GET,
        "/v1/log",
        Call::Log,
        "Log",
        "The operation log of this device",
    )
    .query(&["device", "kind", "since"]),
    Route::new(
        Method::GET,
        "/v1/log/verify",
        Call::VerifyLog,
        "LogVerified",
        "Whether the operation log is as it was written",
    ),
    Route::new(
        Method::POST,
        "/v1/wait",
        Call::Wait,
        "WaitReply",
        "Waits until what is on the disk now is confirmed elsewhere",
    )
    .body("WaitRequest"),
    Route::new(
        Method::POST,
        "/v1/pair",
        Call::Pair,
        "PairEvent",
        "Opens the pairing window; closing the stream closes it",
    )
    .body("PairRequest")
    .lines(),
    Route::new(
        Method::POST,
        "/v1/pair/confirm",
        Call::Confirm,
        "Done",
        "Gives the words the new device shows",
    )
    .body("ConfirmRequest"),
    Route::new(
        Method::POST,
        "/v1/down",
        Call::Down,
        "Done",
        "Stops the node in order",
    ),
    Route::new(
        Method::GET,
        "/v1/events",
        Call::Events,
        "Event",
        "What happens, as it happens",
    )
    .lines(),
    Route::new(
        Method::GET,
        "/v1/openapi.json",
        Call::OpenApi,
        "OpenApi",
        "This description",
    ),
];

/// Finds the route of a request, and what stands for `{NAME}`.
pub(super) fn find(method: &Method, path: &str) -> Result<(&'static Route, String), CommandError> {
    let mut others = Vec::new();
    for route in &ROUTES {
        if let Some(name) = uri::matches(route.path, path) {
            if route.method == *method {
                return Ok((route, name));
            }
            others.push(route.method.as_str());
        }
    }
    if others.is_empty() {
        Err(CommandError::not_found("API path", path).hint("GET /v1/openapi.json"))
    } else {
        Err(CommandError::new(
            Kind::Method,
            format!("{path} takes {}, not {method}", others.join(" and ")),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_one_route_and_every_route_is_found() {
        for (index, route) in ROUTES.iter().enumerate() {
            let path = route.path.replace("{NAME}", "docs");
            assert_eq!(
                find(&route.method, &path).ok().map(|found| found.0.call),
                Some(route.call)
            );
            assert!(
                ROUTES[..index].iter().all(|other| other.call != route.call),
                "{:?} twice",
                route.call
            );
            assert!(route.request.is_none() || route.method == Method::POST);
        }
    }

    #[test]
    fn a_wrong_method_is_told_from_a_wrong_path() {
        assert_eq!(
            find(&Method::GET, "/v1/down").err().map(|error| error.kind),
            Some(Kind::Method)
        );
        assert_eq!(
            find(&Method::GET, "/v1/nothing")
                .err()
                .map(|error| error.kind),
            Some(Kind::NotFound)
        );
    }
}
