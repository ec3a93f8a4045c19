#!/usr/bin/env bash
# Trains for two steps from an empty directory, by the config's base name, and writes the report of
# that run, with the package installed as a wheel and as an editable checkout, each with onedl-mim and
# with openmim.
# usage: tools/check_install.sh [PYTHON]    the Python of an environment of `make venv-full`
set -euo pipefail
python=$(realpath -s "${1:-.venv/bin/python}")
repo=$(realpath "$(dirname "$0")/..")
config=plrc_demo.py
options=(train_cfg.max_epochs=1 model.warmup_epochs=0 train_dataloader.batch_size=4
    train_dataloader.dataset.num_train=8 train_dataloader.dataset.num_val=1)

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
shared=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
failed=0

fail() { echo "FAILED  $1"; tail -n 20 "$temp/log"; failed=1; }

check() {  # name, Python of the environment, folder that the training script must lie in
    local empty
    empty=$(mktemp -d -p "$temp")
    if (cd "$empty" && "${2%/*}/mim" train plrc_plugin "$config" --work-dir out \
            --cfg-options "${options[@]}") > "$temp/log" 2>&1 \
        && grep -qF "$3/tools/train.py" "$temp/log" && ls "$empty"/out/*.pth > /dev/null \
        && (cd "$empty" && "${2%/*}/mim" run plrc_plugin report out) >> "$temp/log" 2>&1 \
        && grep -q '<td><data value=' "$empty/out/report.html"; then
        echo "ok      $1"
    else
        fail "$1"
    fi
}

(cd "$repo" && "$python" -m pip wheel -q --no-deps -w "$temp" .)
wheel=$(echo "$temp"/*.whl)
"$python" -m zipfile -l "$wheel" > "$temp/log"
if grep -q '^plrc_plugin/.mim/configs/' "$temp/log" && grep -q '^plrc_plugin/py.typed' "$temp/log" \
        && ! grep -qE '^(tests|studies)/|[/_]study[_./]' "$temp/log"; then
    echo 'ok      the wheel holds configs and types, and no tests or studies'
else
    fail 'the wheel holds configs and types, and no tests or studies'
fi

for mim in onedl openmmlab; do
    env=$temp/$mim
    "$python" -m venv "$env"
    pip=("$env/bin/python" -m pip --disable-pip-version-check install -q --no-deps)
    # Everything but mim and mmengine is read from the given environment.
    case $mim in
        onedl) "${pip[@]}" onedl-mim onedl-mmengine ;;
        openmmlab) "${pip[@]}" openmim mmengine 'setuptools<81' ;;
    esac
    site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$shared" > "$site/shared.pth"

    "${pip[@]}" --ignore-installed "$wheel"
    case $mim in
        onedl) root=$(echo "$site"/plrc_plugin-*.dist-info)/.mim ;;
        openmmlab) root=$site/plrc_plugin/.mim ;;
    esac
    check "wheel, $mim" "$env/bin/python" "$root"
    # pip leaves the files that numba compiled beside the wheel's modules. Their folder would be
    # imported in place of the checkout.
    "$env/bin/python" -m pip uninstall -q -y plrc_plugin
    rm -rf "$site/plrc_plugin"
    "${pip[@]}" -e "$repo"
    check "editable, $mim" "$env/bin/python" "$repo"
done
exit "$failed"
