//! What the loader promises: the same batches whoever loads them, resumed where a fit left, and errors that name items.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::{DataSource, Error};

/// A dataset of its indices, which remembers what it was asked for and goes wrong at one item.
#[derive(Clone, Default)]
struct Numbers {
    len: usize,
    fails_at: Option<usize>,
    panics_at: Option<usize>,
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Dataset for Numbers {
    type Item = u32;

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> crate::Result<u32> {
        self.asked.lock().unwrap().push(index);
        assert_ne!(Some(index), self.panics_at, "on purpose");
        if Some(index) == self.fails_at {
            return Err(Error::Other("the file is gone".into()));
        }
        Ok(index as u32)
    }
}

fn numbers(len: usize) -> Numbers {
    Numbers { len, ..Default::default() }
}

fn loader(dataset: Numbers, config: LoaderConfig) -> Loader<Numbers, Tensor> {
    Loader::new(dataset, config).unwrap()
}

fn epoch(loader: &Loader<Numbers, Tensor>, epoch: usize, first: usize) -> Vec<Vec<u32>> {
    let batches = loader.epoch_from(epoch, first).unwrap();
    batches.map(|batch| batch.unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn batches_come_in_order_and_the_last_is_kept_or_dropped() {
    let config = LoaderConfig { batch_size: 4, ..Default::default() };
    let keep = loader(numbers(10), config.clone());
    assert_eq!(epoch(&keep, 0, 0), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    assert_eq!(DataSource::len(&keep), Some(3));
    let drop = loader(numbers(10), LoaderConfig { last_batch: LastBatch::Drop, ..config });
    assert_eq!(epoch(&drop, 0, 0), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    assert_eq!(DataSource::len(&drop), Some(2));
}

#[test]
fn the_batches_are_the_same_whoever_loads_them() {
    let order = Order::Shuffled { seed: 3 };
    let config = LoaderConfig { batch_size: 3, order, ..Default::default() };
    let alone = loader(numbers(100), config.clone());
    for (workers, prefetch) in [(1, 1), (2, 3), (7, 1), (64, 2)] {
        let loader = loader(numbers(100), LoaderConfig { workers, prefetch, ..config.clone() });
        for number in 0..3 {
            assert_eq!(epoch(&loader, number, 0), epoch(&alone, number, 0), "{workers} workers");
        }
    }
    let mut items: Vec<u32> = epoch(&alone, 0, 0).concat();
    assert_ne!(items, (0..100).collect::<Vec<_>>());
    items.sort_unstable();
    assert_eq!(items, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_fit_resumes_in_an_epoch_without_reading_what_came_before() {
    for workers in [0, 2] {
        let dataset = numbers(20);
        let order = Order::Shuffled { seed: 5 };
        let config = LoaderConfig { batch_size: 4, order, workers, ..Default::default() };
        let loader = loader(dataset.clone(), config);
        let whole = epoch(&loader, 2, 0);
        dataset.asked.lock().unwrap().clear();
        assert_eq!(epoch(&loader, 2, 3), whole[3..]);
        let mut asked = dataset.asked.lock().unwrap().iter().map(|&index| index as u32).collect::<Vec<_>>();
        let mut expected = whole[3..].concat();
        asked.sort_unstable();
        expected.sort_unstable();
        assert_eq!(asked, expected);
        assert!(epoch(&loader, 2, 5).is_empty() && epoch(&loader, 2, 99).is_empty());
    }
}

#[test]
fn workers_load_no_further_ahead_than_they_are_told() {
    let dataset = numbers(1000);
    let config = LoaderConfig { workers: 2, prefetch: 3, ..Default::default() };
    let loader = loader(dataset.clone(), config);
    let mut batches = loader.epoch(0).unwrap();
    batches.next().unwrap().unwrap();
    // One batch was taken, and six are in hand or ready at most.
    while dataset.asked.lock().unwrap().len() < 7 {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(dataset.asked.lock().unwrap().len(), 7);
}

#[test]
fn an_item_that_fails_is_named_and_the_others_come() {
    for workers in [0, 3] {
        let dataset = Numbers { fails_at: Some(5), ..numbers(9) };
        let loader = loader(dataset, LoaderConfig { batch_size: 2, workers, ..Default::default() });
        let batches: Vec<_> = loader.epoch(0).unwrap().collect();
        let errors: Vec<_> = batches.iter().filter_map(|batch| batch.as_ref().err()).collect();
        assert_eq!((batches.len(), errors.len()), (5, 1));
        assert_eq!(errors[0].to_string(), "item 5 of the dataset: the file is gone");
    }
}

#[test]
fn a_panic_is_an_error_and_no_worker_is_lost() {
    for workers in [0, 1, 3] {
        let dataset = Numbers { panics_at: Some(2), ..numbers(9) };
        let loader = loader(dataset, LoaderConfig { workers, ..Default::default() });
        let batches: Vec<_> = loader.epoch(0).unwrap().collect();
        assert_eq!(batches.iter().filter(|batch| batch.is_ok()).count(), 8);
        let error = batches[2].as_ref().unwrap_err();
        assert!(matches!(error, Error::LoaderPanicked { indices, .. } if indices == &[2]), "{error}");
        assert!(error.to_string().contains("on purpose"), "{error}");
    }
}

#[test]
fn a_panic_while_collating_names_the_batch() {
    let config = LoaderConfig { batch_size: 2, workers: 1, ..Default::default() };
    let loader = Loader::<_, Tensor>::with_collate(numbers(4), config, |_| panic!("cannot pad")).unwrap();
    let error = loader.epoch(0).unwrap().nth(1).unwrap().unwrap_err().to_string();
    assert!(error.contains("[2, 3]") && error.contains("cannot pad"), "{error}");
}

#[test]
fn a_dropped_epoch_ends_its_workers() {
    let dataset = numbers(1000);
    let asked = dataset.asked.clone();
    let loader = loader(dataset, LoaderConfig { workers: 2, ..Default::default() });
    drop(loader.epoch(0).unwrap());
    drop(loader);
    // The threads hold the dataset: it goes when the last of them ends.
    while Arc::strong_count(&asked) > 1 {
        std::thread::yield_now();
    }
    assert!(asked.lock().unwrap().len() <= 6);
}

#[test]
fn items_that_do_not_go_together_are_named() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let first = zeros(&[2], DType::F32);
    for (other, word) in [(zeros(&[3], DType::F32), "shape"), (zeros(&[2], DType::F64), "f64")] {
        let config = LoaderConfig { batch_size: 2, ..Default::default() };
        let loader = Loader::new(vec![first.clone(), other], config).unwrap();
        let error = loader.epoch(0).unwrap().next().unwrap().unwrap_err().to_string();
        assert!(error.contains("items [0, 1]") && error.contains(word), "{error}");
        assert!(error.contains("with_collate"), "{error}");
    }
}

#[test]
fn fields_are_put_together_one_by_one() {
    let pixel = |value: f32| Tensor::new(&[value, -value], &Device::Cpu).unwrap();
    let items = vec![(pixel(1.), 3u32, "a".to_string()), (pixel(2.), 4, "b".to_string())];
    let (pixels, classes, names) = Collate::collate(items).unwrap();
    assert_eq!(pixels.to_vec2::<f32>().unwrap(), [[1., -1.], [2., -2.]]);
    assert_eq!(classes.to_vec1::<u32>().unwrap(), [3, 4]);
    assert_eq!(names, ["a", "b"]);

    let (pixels, rest) = stack(vec![(pixel(1.), vec![pixel(5.)]), (pixel(2.), vec![pixel(6.)])]).unwrap();
    assert_eq!(pixels.to_vec2::<f32>().unwrap(), [[1., -1.], [2., -2.]]);
    assert_eq!(rest[0].to_vec2::<f32>().unwrap(), [[5., -5.], [6., -6.]]);
    for uneven in [[1, 2], [2, 1]] {
        assert!(stack(uneven.map(|count| vec![pixel(0.); count]).to_vec()).is_err());
    }
    assert!(stack(Vec::<Tensor>::new()).is_err());
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |config| Loader::new(numbers(3), config).err().unwrap().to_string();
    let default = LoaderConfig::default();
    assert!(refused(LoaderConfig { batch_size: 0, ..default.clone() }).contains("batch_size is 0"));
    assert!(refused(LoaderConfig { workers: 1, prefetch: 0, ..default.clone() }).contains("prefetch is 0"));
    let drop = LoaderConfig { batch_size: 4, last_batch: LastBatch::Drop, ..default };
    assert!(refused(drop).contains("4 for a dataset of 3 items"));
    assert_eq!(epoch(&loader(numbers(0), LoaderConfig::default()), 0, 0).len(), 0);
}

#[test]
fn several_threads_load_at_once() {
    /// Gives no item before another one is being had.
    struct Meeting(AtomicUsize);
    impl Dataset for Meeting {
        type Item = u32;
        fn len(&self) -> usize {
            2
        }
        fn get(&self, index: usize) -> crate::Result<u32> {
            self.0.fetch_add(1, Ordering::SeqCst);
            while self.0.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            Ok(index as u32)
        }
    }
    let config = LoaderConfig { workers: 2, prefetch: 1, ..Default::default() };
    let loader = Loader::new(Meeting(AtomicUsize::new(0)), config).unwrap();
    assert_eq!(loader.epoch(0).unwrap().filter(Result::is_ok).count(), 2);
}
