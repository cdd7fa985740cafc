//! `mesh devices`.

use ownmesh_node::status::DeviceInfo;
use serde::{Deserialize, Serialize};

use super::{Context, status};
use crate::error::{End, Result};
use crate::ui::clean;
use crate::{start, words};

/// List the devices of the mesh
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

#[derive(Serialize, Deserialize)]
struct Answer {
    devices: Vec<DeviceInfo>,
}

pub(crate) async fn run(context: &Context, Args {}: Args) -> Result<End> {
    let answer: Answer = start::node(context).await?.get("/v1/devices").await?;
    context.ui.answer(&answer, |ui| {
        let rows: Vec<_> = answer.devices.iter().map(row).collect();
        words::table(&rows).iter().for_each(|line| ui.say(line));
    });
    Ok(End::Done)
}

fn row(device: &DeviceInfo) -> Vec<String> {
    let seen = match (device.this_device, device.connected, device.last_seen) {
        (true, ..) => "this device".into(),
        (_, true, _) => format!("connected, {}", status::route(device.route)),
        (_, _, Some(then)) => format!("away {}", words::since(then, words::now())),
        (_, _, None) => "not seen yet".into(),
    };
    let mut how = device
        .added_by
        .as_deref()
        .map_or("the first".into(), |by| format!("added by {}", clean(by)));
    if device.may_add {
        how.push_str(", may add others");
    }
    if device.blocked {
        how.push_str(", blocked here");
    }
    vec![
        clean(&device.name),
        clean(&device.platform),
        clean(device.version.as_deref().unwrap_or("-")),
        seen,
        how,
    ]
}
