//! `mesh continue` and `mesh revert`: the answers, with the look at the disk that the engine does not take itself.
//!
//! A space whose folder is gone goes on with a folder only: `revert` makes it, `continue` would read nothing as "all
//! deleted" and is refused. Neither says "done" before the folder is marked as the space's. `revert`
//! forgets what stood in the folder, durably, before it is marked: a kill in between leaves one without a marker, which
//! stops the space as before, or a marked one that is filled.

use std::io;
use std::path::Path;

use super::Handle;
use super::undoing::blocking;
use crate::command::CommandError;
use crate::engine::Engine;

impl Handle {
    /// `mesh continue`.
    ///
    /// # Errors
    /// No such space, it is not stopped, or there is no folder to go on with.
    pub async fn go_on(&self, name: String) -> Result<(), CommandError> {
        self.answer(name, stands, Engine::go_on).await
    }

    /// `mesh revert`.
    ///
    /// # Errors
    /// No such space, it is not stopped, or its folder cannot be made.
    pub async fn revert(&self, name: String) -> Result<(), CommandError> {
        self.answer(name, made, Engine::revert).await
    }

    async fn answer(
        &self,
        name: String,
        look: fn(&str, &str) -> Result<(), CommandError>,
        answer: fn(&mut Engine, &str) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let space = name.clone();
        let folder = self.call(move |engine, _| engine.stopped_folder(&space));
        if let Some(folder) = folder.await?? {
            let space = name.clone();
            blocking(move || look(&folder, &space)).await?;
        }
        let space = name.clone();
        self.call(move |engine, _| answer(engine, &space)).await??;
        self.is_marked(name).await
    }

    /// What the answer was to do with the folder was done before this call is answered.
    async fn is_marked(&self, name: String) -> Result<(), CommandError> {
        self.call(move |engine, _| engine.folder_in_order(&name))
            .await?
    }
}

/// Whether there is a folder to go on with.
fn stands(folder: &str, space: &str) -> Result<(), CommandError> {
    let not_there = || CommandError::refused(format!("{folder} is not there")).about(folder);
    match Path::new(folder).metadata() {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(no_directory(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_there().hint(format!(
            "mount its disk, or put it back; mesh revert {space} makes it and fills it from the other devices; \
             mesh leave {space} ends taking part"
        ))),
        Err(error) => Err(unusable(folder, &error)),
    }
}

/// Makes the folder if it is not there; what is above it has to be there.
fn made(folder: &str, space: &str) -> Result<(), CommandError> {
    match std::fs::create_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => stands(folder, space),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = Path::new(folder).parent().unwrap_or(Path::new("/"));
            let above = above.display();
            Err(
                CommandError::refused(format!("{folder} cannot be made: {above} is not there"))
                    .hint(format!("mount its disk, or make {above}, and say it again"))
                    .about(folder),
            )
        }
        Err(error) => Err(unusable(folder, &error)),
    }
}

fn no_directory(folder: &str) -> CommandError {
    CommandError::refused(format!("{folder} is no directory"))
        .hint("move away what stands there, and say it again")
        .about(folder)
}

fn unusable(folder: &str, error: &io::Error) -> CommandError {
    CommandError::failed(format!("{folder} cannot be used: {error}")).about(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Kind;

    #[test]
    fn only_the_last_directory_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let kind = |done: Result<(), CommandError>| done.unwrap_err().kind;
        assert_eq!(kind(stands(&at("s"), "s")), Kind::Refused);
        assert_eq!(kind(made(&at("away/s"), "s")), Kind::Refused);
        assert!(!dir.path().join("away").exists());
        made(&at("s"), "s").unwrap();
        made(&at("s"), "s").unwrap();
        stands(&at("s"), "s").unwrap();
        std::fs::write(at("file"), "").unwrap();
        assert_eq!(kind(made(&at("file"), "s")), Kind::Refused);
        assert_eq!(kind(stands(&at("file"), "s")), Kind::Refused);
    }
}
