# shellcheck shell=bash
check_wheel() { :; }
install_wheel() { :; }
