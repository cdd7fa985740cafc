//! `mesh init`.

use std::path::{Path, PathBuf};

use ownmesh_node::command::CommandError;
use ownmesh_node::home::{Fresh, HomeState, random_u64, rng, write_new_secret};
use serde_json::json;

use super::Context;
use crate::error::{End, Result};
use crate::secrets::{self, Phrase};
use crate::start;
use crate::ui::Ui;

/// Make a new mesh with this device as its first
///
/// Shows the 24 words of the recovery phrase: with them, and with nothing else, you get everything back when all devices are gone. Write
/// them on paper. To join a mesh that another of your devices has, use `mesh pair` instead.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// This device's name [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Read a password from a file: it opens the master key as well as the words do (also: MESH_PASSWORD)
    #[arg(long, value_name = "F", conflicts_with = "no_password")]
    password_file: Option<PathBuf>,

    /// Set no password: the 24 words alone open the master key
    #[arg(long)]
    no_password: bool,

    /// Write the 24 words to a new file (mode 0600) instead of showing them
    #[arg(long, value_name = "F")]
    phrase_out: Option<PathBuf>,

    /// Do not have some of the words typed back
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let ui = context.ui;
    let blank = context.home.state() != HomeState::Mesh;
    // A refusal comes before anything is drawn or written.
    if blank && args.phrase_out.is_none() && !args.yes && !ui.can_ask() {
        return Err(CommandError::needs_confirmation(
            "there is no terminal to show the recovery phrase on and have it typed back",
        )
        .hint("--phrase-out FILE writes it to a file, --yes does not have it typed back"));
    }
    if let Some(file) = args
        .phrase_out
        .as_deref()
        .filter(|file| file.symlink_metadata().is_ok())
    {
        return Err(
            CommandError::refused(format!("{} exists already", file.display()))
                .hint("name a new file for the recovery phrase"),
        );
    }
    let vacant = context.home.claim()?;
    let password = secrets::new_password(ui, args.password_file.as_deref(), args.no_password)?;
    let name = args.name.unwrap_or_else(secrets::machine_name);
    let fresh = Fresh::draw(
        &name,
        password.as_ref().map(secrets::Password::expose),
        &mut rng(),
    )?;
    let phrase = Phrase(fresh.phrase.words());
    if let Some(file) = &args.phrase_out {
        write_phrase(file, &phrase)?;
    } else {
        show_phrase(ui, &phrase);
        if !args.yes {
            check_back(ui, &phrase)?;
        }
    }
    let kept = vacant.keep(&fresh);
    let lock = match (kept, &args.phrase_out) {
        (Ok(lock), _) => lock,
        (Err(error), Some(file)) => {
            let _ = std::fs::remove_file(file);
            return Err(error.into());
        }
        (Err(error), None) => return Err(error.into()),
    };
    if let Some(file) = &args.phrase_out {
        context.home.remind_of_phrase(file)?;
    }
    drop(lock);
    start::background(&context.home, &[]).await?;
    let phrase_out = args
        .phrase_out
        .as_ref()
        .map(|file| file.display().to_string());
    let mut answer = json!({ "mesh": { "id": fresh.mesh_id.to_string(), "name": name }, "device": { "name": name }, "phrase_out": phrase_out });
    if phrase_out.is_none() && ui.json() {
        answer["phrase"] = json!(phrase.text());
    }
    ui.answer(&answer, |ui| {
        ui.say(&format!(
            "This is the first device of a new mesh: {name}. The node is running."
        ));
        if let Some(file) = &phrase_out {
            ui.say(&format!(
                "The recovery phrase is in {file}. Write it on paper and delete the file."
            ));
        }
        ui.say(&format!(
            "Add a folder:             {}",
            context.next("add PATH")
        ));
        ui.say(&format!(
            "Let another device in:    {}",
            context.next("pair")
        ));
    });
    Ok(End::Done)
}

fn write_phrase(file: &Path, phrase: &Phrase) -> Result<()> {
    if let Some(parent) = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        && !parent.is_dir()
    {
        return Err(CommandError::failed(format!(
            "{} is not a directory",
            parent.display()
        )));
    }
    Ok(write_new_secret(
        file,
        format!("{}\n", phrase.text()).as_bytes(),
    )?)
}

/// The numbered grid, on stderr: stdout may go to a file or a log.
fn show_phrase(ui: Ui, phrase: &Phrase) {
    if ui.json() {
        return;
    }
    ui.note("The recovery phrase of this mesh. It is shown once. Whoever has it has everything; without it and");
    ui.note("without a device nothing comes back. Write it on paper:\n");
    for row in 0..6 {
        let cells = (0..4)
            .map(|column| row + column * 6)
            .map(|index| format!("{:>4}. {:<10}", index + 1, phrase.0[index]));
        ui.note(cells.collect::<String>().trim_end());
    }
    ui.note("");
}

/// Has four of the words typed back, asked for by number; three tries each.
fn check_back(ui: Ui, phrase: &Phrase) -> Result<()> {
    for index in secrets::four_of_24(&mut random_u64) {
        let question = format!("Word {}:", index + 1);
        let right = |answer: &String| answer.trim().eq_ignore_ascii_case(phrase.0[index]);
        let mut tries = 3;
        while !right(&ui.ask(&question, "--yes")?) {
            tries -= 1;
            if tries == 0 {
                return Err(CommandError::wrong_secret(format!(
                    "word {} is another one; no mesh was made",
                    index + 1
                ))
                .hint("write the words down first, then start again: there will be new ones"));
            }
            ui.note("That is not the word.");
        }
    }
    Ok(())
}
