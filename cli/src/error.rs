//! How a command ends: done, or a [`CommandError`] whose kind gives the exit code.

use std::path::Path;
use std::process::ExitCode;

use ownmesh_node::command::{CommandError, ErrorReply, Kind};
use ownmesh_node::status::VERSION;

use crate::ui::{Ui, clean};

/// What every command returns.
pub(crate) type Result<T> = std::result::Result<T, CommandError>;

/// How a command ends that did not fail: done, or with an answer that has an exit code of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Exit code 0.
    Done,
    /// An answer was printed; the kind gives the exit code.
    Answered(Kind),
}

/// Prints what went wrong and gives the exit code.
pub(crate) fn finish(ui: &Ui, result: Result<End>) -> ExitCode {
    match result {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Answered(kind)) => ExitCode::from(kind.exit_code()),
        Err(error) => {
            let code = error.kind.exit_code();
            report(ui, error);
            ExitCode::from(code)
        }
    }
}

fn report(ui: &Ui, error: CommandError) {
    if ui.json() {
        ui.object(&ErrorReply { v: VERSION, error });
        return;
    }
    ui.note(&format!("mesh: {}", clean(&error.message)));
    if let Some(preview) = &error.preview {
        ui.note(&format!(
            "  equal on both sides {}, differing {}, only here {}, only there {}",
            preview.equal, preview.differing, preview.only_here, preview.only_there
        ));
    }
    if !error.hint.is_empty() {
        ui.note(&format!("  {}", clean(&error.hint)));
    }
}

/// The system said no about a file of the user's.
pub(crate) fn file_error(what: &str, path: &Path, error: &std::io::Error) -> CommandError {
    let message = format!("cannot {what} {}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => CommandError::new(Kind::NotFound, message),
        _ => CommandError::failed(message),
    }
}
