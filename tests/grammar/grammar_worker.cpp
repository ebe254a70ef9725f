// The process of a GrammarCompiler, for tests.
#include "grammar/grammar_compiler.h"

int main() { return tessera::grammar_worker_main(0); }
