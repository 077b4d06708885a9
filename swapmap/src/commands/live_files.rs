//! The files that `swapmap live` writes: an image and a picture.

use std::io;
use std::path::Path;

use image::{ImageFormat, RgbImage};
use swapmap::names::shown;
use swapmap::reading::Reading;

use crate::cli::LiveArgs;
use crate::failure::Failure;
use crate::output::{Destination, is_one_name, picture_to_write, write_file};
use crate::signals;

/// Checks the outputs, before the machine is read.
pub(crate) fn check(args: &LiveArgs) -> Result<Option<Destination>, Failure> {
    if let Some(png) = &args.png {
        picture_to_write(png)?;
    }
    if let (Some(save), Some(png)) = (&args.save, &args.png)
        && is_one_name(save, png)
    {
        return Err(Failure::Usage(format!(
            "--save and --png both name {}: give them two paths",
            shown(png)
        )));
    }
    let Some(save) = &args.save else {
        return Ok(None);
    };
    // Standard output has the text.
    if save.as_os_str() == "-" {
        return Err(Failure::Usage(
            "--save - would mix the image with the text on standard output: give the path of a file"
                .to_owned(),
        ));
    }
    Destination::new(save, &[]).map(Some)
}

pub(crate) fn save(reading: &Reading, to: &Destination) -> Result<(), Failure> {
    let written = signals::held(|| swap_records::image::write(&reading.records, to.path()));
    written
        .map(drop)
        .map_err(|error| Failure::image(to.path(), error))
}

pub(crate) fn write_png(path: &Path, picture: &RgbImage) -> Result<(), Failure> {
    let mut bytes = io::Cursor::new(Vec::new());
    let encoded = picture.write_to(&mut bytes, ImageFormat::Png);
    encoded.map_err(|error| {
        Failure::Refused(format!("cannot make the picture {}: {error}", shown(path)))
    })?;
    write_file(path, &bytes.into_inner())
}
