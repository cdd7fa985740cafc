//! `mesh leave`.

use hyper::Method;
use serde_json::{Value, json};

use super::Context;
use crate::client::segment;
use crate::error::{End, Result};
use crate::start;
use crate::ui::clean;

/// Stop taking part in a space; the files stay on this disk
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The space
    #[arg(value_name = "SPACE")]
    space: String,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let path = format!("/v1/spaces/{}", segment(&args.space));
    let _: Value = client.request(Method::DELETE, &path, None::<&()>).await?;
    context
        .ui
        .answer(&json!({ "space": args.space, "left": true }), |ui| {
            ui.say(&format!(
                "left {}; its files stay where they are",
                clean(&args.space)
            ));
        });
    Ok(End::Done)
}
