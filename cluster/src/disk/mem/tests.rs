use super::*;

fn disk_with(seed: u64) -> (MemDisk, PathBuf, Arc<dyn DiskFile>) {
    let disk = MemDisk::new(seed);
    let path = PathBuf::from("/d/a");
    let file = disk.create(&path).unwrap();
    file.append(&[1; 100]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, path, file)
}

#[test]
fn synced_bytes_survive_and_unsynced_ones_may_not() {
    let mut lost = 0;
    for seed in 0..50 {
        let (disk, path, file) = disk_with(seed);
        file.append(&[2; 2000]).unwrap();
        disk.crash();
        let content = disk.content(&path).unwrap();
        assert_eq!(&content[..100], &[1; 100]);
        lost += u32::from(content != [vec![1; 100], vec![2; 2000]].concat());
        assert!(file.len().is_err(), "a handle of before the crash is dead");
    }
    assert!(lost > 10);
}

#[test]
fn names_need_a_directory_sync() {
    let mut lost = 0;
    for seed in 0..20 {
        let (disk, path, _) = disk_with(seed);
        let b = PathBuf::from("/d/b");
        disk.rename(&path, &b).unwrap();
        disk.crash();
        let (a, b) = (disk.exists(&path).unwrap(), disk.exists(&b).unwrap());
        assert!(a != b, "a rename is whole or not at all");
        lost += u32::from(!b);
    }
    assert!(lost > 0);
}

#[test]
fn a_failed_sync_loses_bytes_that_the_next_sync_calls_clean() {
    let (disk, path, file) = disk_with(1);
    disk.fail_sync_in(0);
    file.append(&[3; 10]).unwrap();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    disk.crash();
    assert_eq!(disk.content(&path).unwrap(), vec![1; 100]);
}

#[test]
fn a_full_disk_refuses() {
    let (disk, _, file) = disk_with(1);
    disk.set_capacity(Some(150));
    file.append(&[0; 50]).unwrap();
    assert_eq!(file.append(&[0; 1]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_at(0, &[9; 10]).unwrap();
}
