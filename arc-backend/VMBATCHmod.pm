package VMBATCHmod;

# A-REX's information provider: asks the vmbatch program once for everything that TORQUE knows, and adds
# what only the provider knows (which jobs, queues and users it is asked for). It never dies: an exception here would
# make all information of the CE disappear.

use strict;
use warnings;
use Cwd ();
use File::Basename ();

our @ISA = ('Exporter');
our @EXPORT_OK = ('get_lrms_info', 'get_lrms_options_schema');
require Exporter;

# The program. If it is not there, it is looked for beside this file's folder, links resolved.
our $vmbatch = '/usr/lib/vmbatch/vmbatch';

sub get_lrms_options_schema {
    return {
        'queues' => { '*' => { 'users' => [''] } },
        'jobs'   => [''],
    };
}

sub get_lrms_info {
    my ($options) = @_;
    my $answer = eval { ask() };
    if (ref $answer ne 'HASH') {
        my $why = $@ || 'no answer';
        chomp $why;
        complain("vmbatch info: $why");
        $answer = {};
    }
    complain("vmbatch info: $_") for @{ list($answer->{warnings}) }, @{ list($answer->{problems}) };
    my $info = eval { assemble($options, $answer) };
    return $info if $info;
    complain("vmbatch info: cannot be used: $@");
    return assemble($options, {});
}

# The document of `vmbatch info`; dies with a reason.
sub ask {
    my $program = find_program();
    my $config  = configuration_file();
    local %ENV = %ENV;
    delete @ENV{qw(NODE_EXTRA_CA_CERTS NODE_OPTIONS)};
    open(my $output, '-|', $program, 'info', '--config', $config) or die "cannot start $program: $!\n";
    local $/;
    my $text = <$output>;
    close($output) or die "$program failed (status $?)\n";
    return decode($text);
}

sub find_program {
    my $here = File::Basename::dirname(Cwd::realpath(__FILE__));
    for my $candidate ($vmbatch, "$here/../vmbatch", "$here/../dist/vmbatch") {
        return $candidate if -f $candidate && -x _;
    }
    die "no vmbatch program (looked at $vmbatch, $here/../vmbatch, $here/../dist/vmbatch)\n";
}

# CEinfo.pl keeps the value of its --config there.
sub configuration_file {
    no strict 'refs';
    no warnings 'once';
    return ${'CEInfo::configfile'} || ${'main::configfile'} || $ENV{ARC_CONFIG} || '/etc/arc.conf';
}

# JSON::XS comes with ARC and is much quicker; JSON::PP is part of Perl.
sub decode {
    my ($text) = @_;
    for my $module ('JSON::XS', 'JSON::PP') {
        next unless eval "require $module; 1";
        return $module->new->utf8->decode($text);
    }
    die "neither JSON::XS nor JSON::PP is installed\n";
}

sub assemble {
    my ($options, $answer) = @_;
    my %zero = map { $_ => 0 } qw(totalcpus queuedcpus usedcpus queuedjobs runningjobs);
    my %info = (
        cluster => {
            lrms_type => 'torque', lrms_version => '', cpudistribution => '', %zero,
            %{ map_of($answer->{cluster}) },
        },
        queues => {},
        jobs   => {},
        nodes  => map_of($answer->{nodes}),
    );
    for my $name (keys %{ map_of($options->{queues}) }) {
        my %queue = (
            status => -1, maxrunning => 0, running => 0, queued => 0, totalcpus => 0, nodes => [],
            %{ map_of(map_of($answer->{queues})->{$name}) },
        );
        my $free = delete $queue{freecpus} || 0;
        my %users;
        for my $user (@{ list($options->{queues}{$name}{users}) }) {
            # No time limit: the queue's walltime is published beside it.
            $users{$user} = { freecpus => ($free > 0 ? { $free => 0 } : {}), queuelength => $queue{queued} };
        }
        $queue{users} = \%users;
        $info{queues}{$name} = \%queue;
    }
    # A job that TORQUE has forgotten is over; the scan reports it. If TORQUE did not answer nothing is known.
    my $jobs   = map_of($answer->{jobs});
    my $silent = @{ list($answer->{problems}) } || ref $answer->{cluster} ne 'HASH';
    for my $id (@{ list($options->{jobs}) }) {
        $info{jobs}{$id} = $jobs->{$id}
            || { status => ($silent ? 'O' : 'EXECUTED'), cpus => 1, nodes => [], comment => [] };
    }
    return \%info;
}

sub list   { my ($value) = @_; return ref $value eq 'ARRAY' ? $value : [] }
sub map_of { my ($value) = @_; return ref $value eq 'HASH'  ? $value : {} }

# To the log of the information providers where there is one.
sub complain {
    my ($message) = @_;
    my $log = eval { require LogUtils; LogUtils->getLogger(__PACKAGE__) };
    if ($log) { $log->warning($message) }
    else      { print STDERR "VMBATCHmod: $message\n" }
    return;
}

1;
