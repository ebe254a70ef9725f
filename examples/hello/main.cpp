// hello CHECKPOINT: what Tessera's C++ interface is, in forty lines.
#include <tessera/tessera.h>

#include <exception>
#include <iostream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: hello CHECKPOINT\n";
    return 2;
  }
  try {
    const tessera::Engine engine = tessera::Engine::load(argv[1], {.context = 256});

    // The text as it comes; false would end it.
    engine.generate("The three primary colours are", {.max_new_tokens = 16}, [](std::string_view piece) {
      std::cout << piece << std::flush;
      return true;
    });

    // A conversation, in the checkpoint's chat template.
    const tessera::Answer answer = engine.chat({{"user", "Hello!"}}, {.max_new_tokens = 16});
    std::cout << '\n' << answer.text << '\n';

    // Many at once.
    std::vector<tessera::Ticket> tickets;
    for (const uint64_t seed : {1, 2, 3})
      tickets.push_back(engine.submit("Once upon a time", {.max_new_tokens = 16, .temperature = 1.0, .seed = seed}));
    for (const tessera::Ticket& ticket : tickets) std::cout << ticket.wait().text << '\n';

    std::cout << "perplexity " << engine.score("One two three four.").perplexity << '\n';
  } catch (const std::exception& error) {
    std::cerr << "hello: " << error.what() << '\n';
    return 1;
  }
}
