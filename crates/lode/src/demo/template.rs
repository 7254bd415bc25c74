//! The project of the demo, as files in the binary. They are those of `examples/ev`.

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../examples/ev/", $path)))),*]
    };
}

/// Path below the project folder, and content.
pub(super) const FILES: &[(&str, &str)] = files![
    ".gitignore",
    "README.md",
    "dbt_project.yml",
    "lode.yml",
    "macros/generate_schema_name.sql",
    "macros/vin_is_valid.sql",
    "models/gold/battery_health.sql",
    "models/gold/charging.sql",
    "models/gold/energy_per_km_by_temperature.sql",
    "models/gold/faults.sql",
    "models/gold/fleet_summary.sql",
    "models/gold/gold.yml",
    "models/gold/station_use.sql",
    "models/gold/trips.sql",
    "models/silver/car_owners.sql",
    "models/silver/cars.sql",
    "models/silver/charging_sessions.sql",
    "models/silver/silver.yml",
    "models/silver/stations.sql",
    "models/silver/tariffs.sql",
    "models/silver/telemetry.sql",
    "models/silver/weather.sql",
    "models/sources.yml",
    "seeds/fault_codes.csv",
    "seeds/seeds.yml",
    "seeds/temperature_bands.csv",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            // What using the project leaves behind.
            if [".lode", "target", "landing"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_example_is_in_the_binary() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ev");
        let mut found = BTreeSet::new();
        walk(&root, &root, &mut found);
        let listed: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(found, listed);
        assert_eq!(listed.len(), FILES.len(), "a file is listed twice");
    }
}
