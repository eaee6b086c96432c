//! ResNets of basic blocks, with the parameter names and initial values of torchvision's: ResNet-18 and smaller ones.

use autocast::nn::{BatchNorm, Conv2d, Linear, batch_norm};
use autocast::ops::{self, CrossEntropy, PoolOptions};
use candle_core::{Module, Result, Tensor};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Conv2dConfig, Init, VarBuilder};

use super::Initial;

/// The size of a ResNet.
#[derive(Clone, Copy, Debug)]
pub struct ResNetConfig {
    /// Height and width of an image of three channels.
    pub side: usize,
    /// Channels of the first stage; each further one has twice as many.
    pub width: usize,
    /// Blocks of each stage.
    pub blocks: [usize; 4],
    /// Classes.
    pub classes: usize,
}

impl ResNetConfig {
    /// torchvision's `resnet18` on images of 112 by 112.
    pub const RESNET18: Self = Self { side: 112, width: 64, blocks: [2; 4], classes: 1_000 };

    /// One whose fits a check compares.
    pub const SMALL: Self = Self { side: 32, width: 16, blocks: [1; 4], classes: 10 };
}

/// A stem of a convolution of 7 by 7 and a pool, four stages of blocks, the mean of all pixels, and a linear head.
pub struct ResNet {
    conv: Conv2d,
    norm: BatchNorm,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet {
    /// Creates the parameters in the builder's dtype.
    ///
    /// # Errors
    /// What `vb` reports.
    pub fn new(config: ResNetConfig, vb: VarBuilder) -> Result<Self> {
        let ResNetConfig { width, blocks, classes, .. } = config;
        let mut made = Vec::new();
        let mut from = width;
        for (stage, count) in blocks.into_iter().enumerate() {
            let to = width << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                made.push(Block::new(from, to, stride, vb.pp(format!("layer{}.{block}", stage + 1)))?);
                from = to;
            }
        }
        Ok(Self {
            conv: conv(3, width, 7, 2, vb.pp("conv1"))?,
            norm: batch_norm(width, 1e-5, vb.pp("bn1"))?,
            blocks: made,
            head: Initial::Torch.linear(from, classes, vb.pp("fc"))?,
        })
    }

    /// Images `(batch, 3, height, width)` to logits `(batch, classes)`.
    ///
    /// # Errors
    /// Images of another shape, or too small for the stages.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let x = self.norm.forward_relu(&self.conv.forward(images)?, None)?;
        let windows = PoolOptions { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
        let mut x = ops::max_pool2d(&x, &windows)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let x = ops::adaptive_avg_pool2d(&x, [1, 1])?;
        self.head.forward(&x.flatten_from(1)?)
    }

    /// The mean cross entropy of images `(batch, 3, height, width)` and their classes `(batch)`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn loss(&self, images: &Tensor, classes: &Tensor) -> Result<Tensor> {
        Ok(ops::cross_entropy(&self.forward(images)?, classes, &CrossEntropy::default())?)
    }
}

/// Two convolutions of 3 by 3 and what goes around them.
struct Block {
    first: (Conv2d, BatchNorm),
    second: (Conv2d, BatchNorm),
    around: Option<(Conv2d, BatchNorm)>,
}

impl Block {
    fn new(from: usize, to: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        let norm = |name: &str| batch_norm(to, 1e-5, vb.pp(name));
        let around = || -> Result<_> {
            Ok((conv(from, to, 1, stride, vb.pp("downsample.0"))?, norm("downsample.1")?))
        };
        Ok(Self {
            first: (conv(from, to, 3, stride, vb.pp("conv1"))?, norm("bn1")?),
            second: (conv(to, to, 3, 1, vb.pp("conv2"))?, norm("bn2")?),
            around: (stride != 1 || from != to).then(around).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.first.1.forward_relu(&self.first.0.forward(x)?, None)?;
        let y = self.second.0.forward(&y)?;
        let around = match &self.around {
            Some((conv, norm)) => norm.forward_by_mode(&conv.forward(x)?)?,
            None => x.clone(),
        };
        self.second.1.forward_relu(&y, Some(&around))
    }
}

/// A convolution without a bias that keeps the size but for its stride, its weight normal as in torchvision.
fn conv(from: usize, to: usize, taps: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    let init = Init::Kaiming {
        dist: NormalOrUniform::Normal,
        fan: FanInOut::FanOut,
        non_linearity: NonLinearity::ReLU,
    };
    let config = Conv2dConfig { padding: taps / 2, stride, ..Default::default() };
    let weight = vb.get_with_hints((to, from, taps, taps), "weight", init)?;
    Ok(Conv2d::new(weight, None, config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    #[test]
    fn resnet_18_has_torchvisions_parameters() {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        ResNet::new(ResNetConfig::RESNET18, vb).unwrap();
        let vars = vars.data().lock().unwrap();
        let count = |statistics: bool| -> usize {
            let of = vars.iter().filter(|(name, _)| name.contains("running_") == statistics);
            of.map(|(_, var)| var.elem_count()).sum()
        };
        // torchvision: sum(p.numel() for p in resnet18().parameters()), and its 4,800 channels of norms twice.
        assert_eq!((count(false), count(true)), (11_689_512, 9_600));
        assert_eq!(vars["layer2.0.downsample.0.weight"].dims(), [128, 64, 1, 1]);
    }

    #[test]
    fn images_become_logits() {
        let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
        let config = ResNetConfig { side: 32, width: 4, blocks: [1; 4], classes: 7 };
        let net = ResNet::new(config, vb).unwrap();
        let images = Tensor::randn(0f32, 1f32, (2, 3, 32, 32), &Device::Cpu).unwrap();
        assert_eq!(net.forward(&images).unwrap().dims(), [2, 7]);
    }
}
