#include "cli/cli_main.h"

int main(int argc, char** argv) { return tessera::cli_main(argc, argv); }
