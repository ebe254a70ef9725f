from tessera.command import main

main()
