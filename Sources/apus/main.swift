import CommandLine
import Glibc

exit(await CommandLineTool.run(arguments: Array(Swift.CommandLine.arguments.dropFirst())))
