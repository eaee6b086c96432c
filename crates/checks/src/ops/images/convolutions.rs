//! Convolutions and transposed ones, of one dimension and of two.

use autocast::ops::{self, ConvOptions, ConvTransposeOptions};
use candle_core::Tensor;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Trial, image, seen};
use crate::catalogue::Samples;

/// What convolutions of both kinds draw.
struct Drawn {
    spatial: usize,
    last: bool,
    groups: usize,
    /// Of each group.
    channels: [usize; 2],
    taps: Vec<usize>,
    size: Vec<usize>,
    batch: usize,
    stride: usize,
    dilation: usize,
    padding: usize,
    bias: bool,
}

impl Drawn {
    fn new(rng: &mut StdRng) -> Self {
        let spatial = rng.random_range(1..=2);
        // Eights are what tensor cores like.
        let channels = [(); 2].map(|()| [1, 3, 5, 8, 16][rng.random_range(0..5)]);
        let taps: Vec<usize> = (0..spatial).map(|_| rng.random_range(1..=4)).collect();
        let dilation = rng.random_range(1..=2);
        let size = taps.iter().map(|taps| dilation * (taps - 1) + 1 + rng.random_range(0..8)).collect();
        Self {
            spatial,
            last: rng.random(),
            groups: rng.random_range(1..=3),
            channels,
            taps,
            size,
            batch: rng.random_range(1..=3),
            stride: rng.random_range(1..=3),
            dilation,
            padding: rng.random_range(0..=2),
            bias: rng.random(),
        }
    }

    fn name(&self, of: &str) -> String {
        let Self { last, groups, channels, taps, size, batch, stride, dilation, padding, .. } = self;
        format!(
            "{of} of {batch}x{groups}x{channels:?}x{size:?}, taps {taps:?}, stride {stride}, dilation {dilation}, padding \
             {padding}, channels last {last}"
        )
    }

    fn terms(&self, positions: usize) -> usize {
        let taps: usize = self.taps.iter().product();
        (self.channels[0].max(self.channels[1]) * taps).max(self.batch * positions)
    }

    fn inputs(&self, samples: &mut Samples, from: usize, kernel: [usize; 2], to: usize) -> Vec<Tensor> {
        let dims = [&[self.batch, from], &self.size[..]].concat();
        let mut inputs = vec![image(samples, &dims, self.last)];
        inputs.push(samples.uniform(&[&kernel, &self.taps[..]].concat(), -1., 1.));
        inputs.extend(self.bias.then(|| samples.uniform(&[to], -1., 1.)));
        inputs
    }
}

pub(super) fn convolution(rng: &mut StdRng, samples: &mut Samples) -> Trial {
    let drawn = Drawn::new(rng);
    let (from, to) = (drawn.groups * drawn.channels[0], drawn.groups * drawn.channels[1]);
    let inputs = drawn.inputs(samples, from, [to, drawn.channels[0]], to);
    let Drawn { spatial, last, stride, dilation, padding, groups, .. } = drawn;
    let options = ConvOptions { padding, stride, dilation, groups };
    let pixels = drawn.size.iter().map(|size| size + 2 * padding).product();
    Trial {
        name: drawn.name("convolution"),
        terms: drawn.terms(pixels),
        roundings: 2,
        inputs,
        run: Box::new(move |x| {
            let image = seen(&x[0], last)?;
            match spatial {
                1 => ops::conv1d(&image, &x[1], x.get(2), &options),
                _ => ops::conv2d(&image, &x[1], x.get(2), &options),
            }
        }),
    }
}

pub(super) fn transposed(rng: &mut StdRng, samples: &mut Samples) -> Trial {
    let mut drawn = Drawn::new(rng);
    let (from, to) = (drawn.groups * drawn.channels[0], drawn.groups * drawn.channels[1]);
    let added = rng.random_range(0..drawn.stride.max(drawn.dilation));
    let full = |drawn: &Drawn, i: usize| {
        (drawn.size[i] - 1) * drawn.stride + drawn.dilation * (drawn.taps[i] - 1) + 1 + added
    };
    while (0..drawn.spatial).any(|i| full(&drawn, i) <= 2 * drawn.padding) {
        drawn.padding -= 1;
    }
    let inputs = drawn.inputs(samples, from, [from, drawn.channels[1]], to);
    let pixels = (0..drawn.spatial).map(|i| full(&drawn, i)).product();
    let Drawn { spatial, last, stride, dilation, padding, groups, .. } = drawn;
    let options = ConvTransposeOptions { padding, output_padding: added, stride, dilation, groups };
    Trial {
        name: format!("{}, added {added}", drawn.name("transposed convolution")),
        terms: drawn.terms(pixels),
        roundings: 2,
        inputs,
        run: Box::new(move |x| {
            let image = seen(&x[0], last)?;
            match spatial {
                1 => ops::conv_transpose1d(&image, &x[1], x.get(2), &options),
                _ => ops::conv_transpose2d(&image, &x[1], x.get(2), &options),
            }
        }),
    }
}
